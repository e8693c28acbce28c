"""Speak to the API server, and through it to relays. Called by the commands of `kubectl rhapsode`.

What goes wrong on the way is told in words: the API server and kubectl answer with a `Status` or plain text of their
own, and never a relay does.
"""

import json
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from rhapsode.errors import EXIT_TRY_LATER, CommandError
from rhapsode.kubectl.proxying import KubectlProxy
from rhapsode.streaming import TIMEOUT, RelayClient, Unreachable
from rhapsode_contract import names
from rhapsode_contract.wording import clean

JSON = dict[str, Any]
HOST = "http://localhost"
"""What kubectl's proxy accepts as a host; the socket decides where requests go."""
WORKERS = f"/apis/{names.API_VERSION}"
EVENTS = "/api/v1"
KEY_HEADER = "X-Api-Key"
"""Authorization is the proxy's own: it says who the user is to the API server."""
WATCH_S, SILENT_S = 240, 300.0
"""How long a watch may run before it is begun anew, and how long it may be silent before it counts as dead."""
PATIENCE_S, FIRST_PAUSE_S, LAST_PAUSE_S = 120.0, 0.2, 5.0
_MAX_LINE = 8 * 1024 * 1024


class NotThereError(CommandError):
    """The API server has no such object."""


class ForbiddenError(CommandError):
    """The user may not do this."""


class Expired(Exception):
    """What a watch would go on from is forgotten: list again."""


class Change(NamedTuple):
    """What a list or a watch told: LISTED with all, then ADDED, MODIFIED or DELETED with one; CUT with none."""

    kind: str
    items: list[JSON]
    why: str = ""


class Cluster:
    """One namespace of a cluster, or all with ""; `flags` is what a command that we advise must say too."""

    def __init__(self, proxy: KubectlProxy, namespace: str, flags: str = "") -> None:
        self.namespace, self.flags = namespace, flags
        self._transport = _ThroughKubectl(proxy)
        self._http = httpx.Client(base_url=HOST, transport=self._transport, timeout=TIMEOUT)

    # Objects

    def worker(self, name: str) -> JSON:
        """Return an InferenceWorker. NotThereError says which there are."""
        path = f"{self.base(WORKERS)}/{names.PLURAL}"
        try:
            return self.get(f"{path}/{name}")
        except NotThereError:
            there = [one["metadata"]["name"] for one in self.items(path)]
        known = f"known here: {', '.join(sorted(there)[:20])}" if there else "there is none"
        raise NotThereError(f"no InferenceWorker {name} in namespace {self.namespace}: {known}")

    def items(self, path: str, **query: str) -> list[JSON]:
        """Return the objects of a collection."""
        try:
            found: list[JSON] = self.get(path, **query).get("items") or []
        except NotThereError:
            raise CommandError(
                "this cluster does not know InferenceWorkers: is Rhapsode installed (helm install rhapsode …)?"
            ) from None
        return found

    def base(self, group: str) -> str:
        """Return where the objects of an API group are: in our namespace, or in all."""
        return f"{group}/namespaces/{self.namespace}" if self.namespace else group

    def get(self, path: str, **query: str) -> JSON:
        """Return an object or a list."""
        try:
            response = self._http.get(path, params=query)
            found: JSON = json.loads(response.read())
        except (httpx.TransportError, ValueError) as exc:
            raise CommandError(f"the API server: {_words(exc)}", EXIT_TRY_LATER) from exc
        return found

    # Changes

    def follow(self, path: str, *, from_now: bool = False, **query: str) -> Iterator[Change]:
        """Yield all objects, then every change, across cuts. Raises CommandError when it stays away too long."""
        version, pause_s, patient_until = "", FIRST_PAUSE_S, time.monotonic() + PATIENCE_S
        while True:
            try:
                if not version:
                    listed = self._list(path, query)
                    version = str(listed["metadata"].get("resourceVersion") or "0")
                    if not from_now:
                        yield Change("LISTED", listed.get("items") or [])
                for kind, item in self._watch(path, version, query):
                    version = str(item["metadata"].get("resourceVersion") or version)
                    pause_s, patient_until = FIRST_PAUSE_S, time.monotonic() + PATIENCE_S
                    if kind != "BOOKMARK":
                        yield Change(kind, [item])
                continue
            except Expired:
                version = ""
            except (httpx.TransportError, ValueError, KeyError) as exc:
                why = _words(exc)
                if time.monotonic() > patient_until:
                    raise CommandError(f"the API server: {why}", EXIT_TRY_LATER) from exc
                yield Change("CUT", [], why)
            time.sleep(pause_s)
            pause_s = min(LAST_PAUSE_S, pause_s * 2)

    def _list(self, path: str, query: dict[str, str]) -> JSON:
        found: JSON = json.loads(self._http.get(path, params=query).read())
        return found

    def _watch(self, path: str, version: str, query: dict[str, str]) -> Iterator[tuple[str, JSON]]:
        """Yield what one connection brings; it ends in order after WATCH_S. Raises Expired."""
        asked = query | {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        }
        with self._http.stream("GET", path, params=asked, timeout=httpx.Timeout(10.0, read=SILENT_S)) as response:
            if response.status_code == 410:
                raise Expired
            for line in _lines(response):
                told = json.loads(line)
                if told["type"] == "ERROR":
                    if told["object"].get("code") == 410:
                        raise Expired
                    raise Unreachable(clean(str(told["object"].get("message", "the watch failed"))))
                yield str(told["type"]), told["object"]

    # Relays

    def relay(self, name: str) -> RelayClient:
        """Return a client of whichever pod of a worker the Service chooses."""
        return self._relay(f"services/{name}:http", f"worker {name}")

    def pod_relay(self, pod: str) -> RelayClient:
        """Return a client of one pod's relay."""
        return self._relay(f"pods/{pod}:{names.DEFAULT_PORT}", pod)

    def _relay(self, where: str, place: str) -> RelayClient:
        key = os.environ.get(names.ENV_KEY, "").strip()
        headers = {KEY_HEADER.encode(): key.encode()} if key else {}
        url = f"{HOST}/api/v1/namespaces/{self.namespace}/{where}/proxy"
        return RelayClient(place, base_url=url, transport=_Shared(self._transport), timeout=TIMEOUT, headers=headers)

    def close(self) -> None:
        self._http.close()


class _ThroughKubectl(httpx.BaseTransport):
    """Sends requests through kubectl's proxy, and raises what it or the API server refuse."""

    def __init__(self, proxy: KubectlProxy) -> None:
        self._proxy = proxy
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=8)
        self._inner = httpx.HTTPTransport(uds=str(proxy.socket), limits=limits)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._proxy.keep_up()
        response = self._inner.handle_request(request)
        if response.status_code >= 400:
            response.request = request
            try:
                response.read()
            finally:
                response.close()
            _raise_refusal(response)
        return response

    def close(self) -> None:
        self._inner.close()


class _Shared(httpx.BaseTransport):
    """A transport that others use too: who closes it closes nothing."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._transport.handle_request(request)


def _raise_refusal(response: httpx.Response) -> None:
    """Raise what the API server or kubectl said; return where a relay said it."""
    said = _status_of(response)
    if said is None:
        return
    message = clean(str(said.get("message") or f"HTTP {response.status_code}"))
    match int(said.get("code") or response.status_code):
        case 401:
            raise CommandError("the API server does not know who you are: log in again, or look at your kubeconfig")
        case 403:
            raise ForbiddenError(f"{message}{_right(message)}")
        case 404:
            raise NotThereError(message)
        case 410:
            raise Expired
        case code if code < 500 and code != 429 and not _has_no_address(message):
            raise CommandError(f"the API server: {message}")
    raise Unreachable(_place(message), request=response.request)


def _status_of(response: httpx.Response) -> JSON | None:
    """Return the Status in a refusal, if the API server or kubectl gave it."""
    if response.headers.get("content-type", "").startswith("text/plain"):
        return {"code": response.status_code, "message": response.text.strip()}
    try:
        said = response.json()
    except ValueError:
        return None
    return said if isinstance(said, dict) and said.get("kind") == "Status" else None


def _right(message: str) -> str:
    """Return how to get the right that is missing, where it is one that people must be given."""
    needed = {
        "services/proxy": "who may ask has get, create and delete on services/proxy",
        "pods/proxy": "who may listen to pods has get on pods/proxy",
        names.PLURAL: f"who may look has get, list and watch on {names.PLURAL}.{names.GROUP}",
    }
    return next((f"; {right}" for resource, right in needed.items() if f'resource "{resource}"' in message), "")


def _has_no_address(message: str) -> bool:
    return message in ("address not allowed", "pod does not have a host assigned")


def _place(message: str) -> str:
    """Return an API server's words for what is not there, in ours."""
    if "no endpoints available" in message:
        return "no pod is there yet"
    if _has_no_address(message):
        return "the pod has no address yet"
    if "error trying to reach service" in message:
        return f"the pod's relay does not answer ({message.partition(': ')[2] or message})"
    return message


def _words(exc: Exception) -> str:
    if isinstance(exc, Unreachable):
        return str(exc)
    if isinstance(exc, httpx.TimeoutException):
        return "no answer in time"
    return clean(str(exc)) or "the connection broke"


def _lines(response: httpx.Response) -> Iterator[bytes]:
    """Yield lines as the API server writes them: httpx splits also at characters that JSON may hold."""
    rest = b""
    for data in response.iter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _MAX_LINE:
            raise ValueError(f"a line of more than {_MAX_LINE} bytes")
        yield from filter(None, lines)

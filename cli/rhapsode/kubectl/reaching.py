"""Speak to the API server, and through it to relays. Called by the commands of `kubectl rhapsode`."""

import json
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from rhapsode.errors import EXIT_TRY_LATER, CommandError
from rhapsode.kubectl.carrying import Expired, NotThereError, Shared, ThroughKubectl
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
STEADY_S = 5.0
"""A connection that lived so long was a good one: patience begins anew."""
_MAX_LINE = 8 * 1024 * 1024


class Change(NamedTuple):
    """What a list or a watch told: LISTED with all, then ADDED, MODIFIED or DELETED with one; CUT with none."""

    kind: str
    items: list[JSON]
    why: str = ""


class Cluster:
    """One namespace of a cluster, or all with ""; `flags` is what a command that we advise must say too."""

    def __init__(self, proxy: KubectlProxy, namespace: str, flags: str = "") -> None:
        self.namespace, self.flags = namespace, flags
        self._transport = ThroughKubectl(proxy)
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
        version, patience = "", _Patience()
        while True:
            try:
                if not version:
                    listed = self._list(path, query)
                    version = str(listed["metadata"].get("resourceVersion") or "0")
                    if not from_now:
                        yield Change("LISTED", listed.get("items") or [])
                for kind, item in self._watch(path, version, query, patience):
                    version = str(item["metadata"].get("resourceVersion") or version)
                    if kind != "BOOKMARK":
                        yield Change(kind, [item])
            except Expired:
                version = ""
            except (httpx.TransportError, ValueError, KeyError) as exc:
                if patience.is_over():
                    raise CommandError(f"the API server: {_words(exc)}", EXIT_TRY_LATER) from exc
                yield Change("CUT", [], _words(exc))
            patience.pause()

    def _list(self, path: str, query: dict[str, str]) -> JSON:
        found: JSON = json.loads(self._http.get(path, params=query).read())
        return found

    def _watch(
        self, path: str, version: str, query: dict[str, str], patience: "_Patience"
    ) -> Iterator[tuple[str, JSON]]:
        """Yield what one connection brings; it ends in order after WATCH_S. Raises Expired."""
        asked = query | {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        }
        with self._http.stream("GET", path, params=asked, timeout=httpx.Timeout(10.0, read=SILENT_S)) as response:
            patience.opened()
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
        return RelayClient(place, base_url=url, transport=Shared(self._transport), timeout=TIMEOUT, headers=headers)

    def close(self) -> None:
        self._http.close()


class _Patience:
    """How long a watch is tried again, and how often."""

    def __init__(self) -> None:
        self._opened_at: float | None = None
        self._pause_s, self._until = FIRST_PAUSE_S, time.monotonic() + PATIENCE_S

    def opened(self) -> None:
        """A connection is there."""
        self._opened_at = time.monotonic()

    def is_over(self) -> bool:
        """Return whether to give up, now that something went wrong."""
        if self._opened_at is not None and time.monotonic() - self._opened_at > STEADY_S:
            self._pause_s, self._until = FIRST_PAUSE_S, time.monotonic() + PATIENCE_S
        self._opened_at = None
        return time.monotonic() > self._until

    def pause(self) -> None:
        """Wait a little, and longer each time."""
        time.sleep(self._pause_s)
        self._pause_s = min(LAST_PAUSE_S, self._pause_s * 2)


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

"""Carry requests through kubectl's proxy, and say in words what it or the API server refuses. Called by `reaching`.

Both answer with a `Status` or plain text of their own, and never a relay does.
"""

from typing import Any

import httpx

from rhapsode.errors import CommandError
from rhapsode.kubectl.proxying import KubectlProxy
from rhapsode.streaming import Unreachable
from rhapsode_contract import names
from rhapsode_contract.wording import clean

JSON = dict[str, Any]


class NotThereError(CommandError):
    """The API server has no such object."""


class ForbiddenError(CommandError):
    """The user may not do this."""


class Expired(Exception):
    """What a watch would go on from is forgotten: list again."""


class ThroughKubectl(httpx.BaseTransport):
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


class Shared(httpx.BaseTransport):
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

"""Keep the clients of each key within their limits. Called by `app`, after `gate` has found the key.

A place for a stream is taken before anything begins, so that no work is done for a stream that may not be opened, and
given back when the connection's request is over, however it ended.
"""

import time
from functools import partial
from typing import NamedTuple

from quart import Quart, Response, g, request

from rhapsode_contract.access import KeyLimits
from rhapsode_relay.errors import RateLimited
from rhapsode_relay.rationing import Rations
from rhapsode_relay.serving import client_of

STREAM_RETRY_S = 1.0
"""When to ask again for a stream: nobody knows when another one ends."""


class Request(NamedTuple):
    """What a request shows of what it will take up."""

    method: str
    path: str
    accept: str = ""
    stream: str = ""
    """The query's parameter of that name."""

    def begins_work(self) -> bool:
        """Return whether it counts as a request."""
        return self.method == "POST" and self.path != "/v1/tickets" and not self.path.endswith("/cancel")

    def may_stream(self) -> bool:
        """Return whether its answer may stay open for as long as a job runs."""
        if self.method == "GET":
            return self.path.endswith(("/stream", "/ws")) or self.stream == "true"
        return self.begins_work() and (self.path != "/v1/inference" or "text/event-stream" in self.accept)


def limit(app: Quart, limits: KeyLimits) -> None:
    """Refuse what is more than a key's limits allow. Without keys, and without limits, nothing is counted."""
    if limits == KeyLimits():
        return
    rations = Rations(limits)

    @app.before_request
    async def count() -> None:
        if g.key_name:
            asked = _this_request()
            _open_stream(rations, asked)
            _count_request(rations, asked)

    @app.after_request
    async def refund(response: Response) -> Response:
        if g.get("counted") and response.status_code == 503:
            rations.give_back(g.key_name)
        return response


def _open_stream(rations: Rations, asked: Request) -> None:
    if not asked.may_stream():
        return
    if not rations.has_place(g.key_name):
        message = f"key {g.key_name} has {rations.limits.streams} streams open, which is its limit"
        raise RateLimited(message, retry_after_s=STREAM_RETRY_S)
    rations.open(g.key_name)
    client_of(request.scope).at_end = partial(rations.close, g.key_name)


def _count_request(rations: Rations, asked: Request) -> None:
    if not asked.begins_work():
        return
    if wait_s := rations.take(g.key_name, time.monotonic()):
        message = f"key {g.key_name} may begin {rations.limits.requests_per_minute} requests a minute"
        raise RateLimited(message, retry_after_s=wait_s)
    g.counted = True


def _this_request() -> Request:
    accept = request.headers.get("Accept", "").lower()
    return Request(request.method, request.path, accept, request.args.get("stream", "").lower())

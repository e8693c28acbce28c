"""Read a relay's event stream, across cuts. Called by `asking` and `watching`.

What is tried again and for how long is said here once; what the events mean is the caller's affair.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import msgspec
from httpx_sse import EventSource

from rhapsode.errors import EXIT_FAILED, EXIT_TRY_LATER, CommandError
from rhapsode_contract.events import ErrorResponse, StreamEvent
from rhapsode_contract.names import ENV_KEY

PATIENCE_S = 30.0
"""How long a stream that broke may stay away before we give up."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 2.0
STEADY_S = 5.0
"""A connection that lived so long was a good one, even if it had nothing to say: patience begins anew."""
TIMEOUT = httpx.Timeout(10.0, read=90.0)
"""Heartbeats come every 60 s at the latest, so longer silence is a dead connection."""
_GATEWAY_STATUS = (502, 503, 504)

_events: msgspec.json.Decoder[StreamEvent] = msgspec.json.Decoder(StreamEvent)


class Unreachable(httpx.ConnectError):
    """Nothing answers there; the message says why, for a person."""


class RelayClient(httpx.Client):
    """A client of a relay; `place` says where that is."""

    def __init__(self, place: str, **options: Any) -> None:
        super().__init__(**options)
        self.place = place


def open_client(url: str) -> RelayClient:
    """Return a client of a relay, which shows the environment's key if there is one. Raises CommandError."""
    if not url.startswith(("http://", "https://")):
        raise CommandError(f"{url}: write the relay's address as http://HOST:PORT")
    key = os.environ.get(ENV_KEY, "").strip()
    headers = {b"Authorization": f"Bearer {key}".encode()} if key else {}
    return RelayClient(url, base_url=url, timeout=TIMEOUT, headers=headers)


def read_events(
    client: RelayClient,
    build: Callable[[str], httpx.Request],
    on_cut: Callable[[str], None],
    patience_s: float = PATIENCE_S,
) -> Iterator[StreamEvent]:
    """Yield events until the server says that there are no more, or the caller stops.

    `build` makes the request that continues after an event id ("" at first). After a cut it is called again.
    Raises CommandError when the server refuses, or when it stays away for `patience_s`.
    """
    last_id, pause_s = "", FIRST_PAUSE_S
    patient_until = time.monotonic() + patience_s
    while True:
        opened_at = None
        try:
            response = client.send(build(last_id), stream=True)
            opened_at = time.monotonic()
            with closing(response):
                _check(response, resuming=bool(last_id))
                if response.status_code == 204:
                    return
                for sse in EventSource(response).iter_sse():
                    last_id = sse.id or last_id
                    pause_s, patient_until = FIRST_PAUSE_S, time.monotonic() + patience_s
                    if event := _decode(sse.data):
                        yield event
            why = "the stream ended early"
        except httpx.TransportError as exc:
            why = describe(exc)
        if opened_at is not None and time.monotonic() - opened_at > STEADY_S:
            pause_s, patient_until = FIRST_PAUSE_S, time.monotonic() + patience_s
        if time.monotonic() + pause_s > patient_until or (not last_id and patience_s == 0):
            raise CommandError(f"{client.place}: {why}", EXIT_TRY_LATER)
        on_cut(why)
        time.sleep(pause_s)
        pause_s = min(LAST_PAUSE_S, pause_s * 2)


def describe(exc: httpx.TransportError) -> str:
    """Return a transport error in words that say what to look at."""
    if isinstance(exc, Unreachable):
        return str(exc)
    if isinstance(exc, httpx.ConnectError):
        return "nothing answers there; is a worker playing (rhapsode play FILE)?"
    if isinstance(exc, httpx.TimeoutException):
        return "no answer in time"
    return "the connection broke"


def refusal(response: httpx.Response) -> CommandError:
    """Return why the server refused, in one line."""
    try:
        body = msgspec.json.decode(response.read(), type=ErrorResponse)
    except (msgspec.DecodeError, httpx.TransportError):
        return CommandError(f"{response.url}: HTTP {response.status_code}")
    after = response.headers.get("retry-after")
    hint = f" (try again in {after} s)" if after else ""
    if response.status_code == 401:
        hint = f" ({ENV_KEY} holds the one that is sent)"
    status = EXIT_TRY_LATER if body.retryable else EXIT_FAILED
    return CommandError(f"{body.error.code}: {body.error.message}{hint}", status)


def _check(response: httpx.Response, *, resuming: bool) -> None:
    if resuming and response.status_code in _GATEWAY_STATUS:
        raise httpx.RemoteProtocolError("the gateway has no relay behind it")
    if response.is_error:
        raise refusal(response)


def _decode(data: str) -> StreamEvent | None:
    """Return the event; None for one of a kind that we do not know yet."""
    try:
        return _events.decode(data)
    except msgspec.ValidationError:
        return None

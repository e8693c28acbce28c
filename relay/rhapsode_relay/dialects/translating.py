"""Answer with a job's stream in a dialect, or wait for its end. Called by the routes of other protocols.

The reader and its journal are those of every stream. Only what is written differs: an outlet reads the events back
and says them in the dialect. Its answer may be held back until there is something to say, so that a job that fails
before that is answered with a status of its own.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from quart import Response, request
from quart.utils import encode_headers
from werkzeug.datastructures import Headers

from rhapsode_contract import events
from rhapsode_relay.answering import STREAM_HEADERS, adopt_correlation, entrust
from rhapsode_relay.dialects import Dialect
from rhapsode_relay.dialects.splitting import split_events
from rhapsode_relay.errors import ApiError, Unavailable
from rhapsode_relay.jobs import Job
from rhapsode_relay.journal import ALWAYS, EVERYTHING, READ_BYTES, TOKEN
from rhapsode_relay.opening import Opener, Place
from rhapsode_relay.reading import Ending, Reader
from rhapsode_relay.serving import Client, client_of

Hear = Callable[[bytes], None]
FROM_START = Place(mask=EVERYTHING, last_event_id=None, after=None)


class Translation:
    """An outlet that says events in a dialect. Until `begin` the first words are kept, and no more is taken."""

    def __init__(self, client: Client, dialect: Dialect) -> None:
        self.first: asyncio.Future[events.Error | None] = asyncio.get_running_loop().create_future()
        """Done when there is something to say; with the error of a job that failed before that."""
        self._client = client
        self._dialect = dialect
        self._held: list[bytes] = []
        self._begun = False
        self._rests = False

    @property
    def full(self) -> bool:
        return self._rests or (self._client.full if self._begun else self.first.done())

    def write(self, chunk: bytes) -> None:
        if words := b"".join(map(self._say, split_events(chunk))):
            self._utter(words)
        if len(chunk) >= READ_BYTES:
            self._rest()

    def begin(self) -> None:
        """Say what was kept, and from now on everything at once."""
        self._begun = True
        held, self._held = self._held, []
        if held:
            self._client.write(b"".join(held))

    def part(self) -> None:
        """Say farewell, if the dialect has words for it."""
        if words := self._dialect.part():
            self._utter(words)

    def stall(self) -> None:
        self._client.stall()

    def abort(self) -> None:
        self._client.abort()

    def _rest(self) -> None:
        """Let the others have their turn: all of a long text, translated at once, would hold them up for a second."""
        self._rests = True
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._rests = False
        if self._client.reader is not None:
            self._client.reader.ring()

    def _say(self, event: events.StreamEvent | None) -> bytes:
        if event is None:
            return self._dialect.beat() if self._begun else b""
        if not self._begun and isinstance(event, events.Error) and not self.first.done():
            self.first.set_result(event)
        return self._dialect.tell(event)

    def _utter(self, words: bytes) -> None:
        if self._begun:
            self._client.write(words)
            return
        self._held.append(words)
        if not self.first.done():
            self.first.set_result(None)


class Speech:
    """The answer that a translation is: see `serving.Passage`."""

    def __init__(self, reader: Reader, outlet: Translation, ended: asyncio.Future[Ending]) -> None:
        self.headers = Headers()
        """Those of the stand-in for this answer, to which others may have added when it is served."""
        self._reader = reader
        self._outlet = outlet
        self._ended = ended

    async def serve(self, send: Any) -> None:
        headers = encode_headers(self.headers)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._outlet.begin()
        self._reader.ring()
        if await self._ended != "done":
            self._outlet.part()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def leave(self) -> None:
        self._ended.cancel()


async def speak(
    opener: Opener,
    job: Job,
    dialect: Dialect,
    *,
    hold_s: float = 0.0,
    place: Place = FROM_START,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with a job's stream in a dialect.

    The status is held back until the dialect has something to say, `hold_s` seconds at most: a job that fails
    before that is refused. Raises ApiError. A client that has everything is answered 204.
    """
    adopt_correlation(job.terms.correlation_id)
    told = STREAM_HEADERS | {"X-Job-Id": job.id} | dict(dialect.headers) | dict(headers or {})
    if request.method == "HEAD":
        return Response(b"", headers=told)
    client = client_of(request.scope)
    outlet = Translation(client, dialect)
    opened = opener.open(job, outlet, place)
    if opened is None:
        return Response(b"", 204)
    client.reader, how = opened
    ended = asyncio.ensure_future(client.reader.serve())
    if hold_s and (failure := await failure_before(outlet.first, ended, hold_s)):
        _dismiss(client)
        raise failure
    speech = Speech(client.reader, outlet, ended)
    response = entrust(speech)
    del response.headers["Content-Length"]
    response.headers.update(told | {"X-Replay": how})
    speech.headers = response.headers
    return response


async def failure_before(
    first: asyncio.Future[events.Error | None], ended: asyncio.Future[Ending], within_s: float
) -> ApiError | None:
    """Return why there will be no first words; None once there are some, or if there still may be.

    Raises what made the reader fail.
    """
    either: set[asyncio.Future[Any]] = {first, ended}
    await asyncio.wait(either, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    if first.done():
        error = first.result()
        return failure_of(error.error, retryable=error.retryable) if error else None
    return _relay_ends() if ended.done() and ended.result() != "done" else None


class _Waiting:
    """The outlet of someone who waits for the end, and may hear what comes until then."""

    full = False

    def __init__(self, client: Client, hear: Hear | None) -> None:
        self.abort = self.stall = client.abort
        self._hear = hear

    def write(self, chunk: bytes) -> None:
        if self._hear is not None:
            self._hear(chunk)


async def wait_over(opener: Opener, job: Job, hear: Hear | None = None) -> None:
    """Return when a job is over. Until then the client counts as a reader of its tokens: it may leave.

    `hear` gets the job's tokens and its end, as SSE. Raises Unavailable if this relay ends first.
    """
    adopt_correlation(job.terms.correlation_id)
    client = client_of(request.scope)
    opened = opener.open(job, _Waiting(client, hear), Place(mask=ALWAYS | TOKEN, last_event_id=None, after=None))
    if opened is None:
        return
    client.reader, _ = opened
    try:
        ended = await client.reader.serve()
    finally:
        _dismiss(client)
    if ended != "done":
        raise _relay_ends()


def ending_of(job: Job) -> events.End | events.Error:
    """Return how a job ended that is over: its last event but `done`."""
    cursor = job.journal.seek(job.journal.head - 2)
    assert cursor is not None
    ending = next(split_events(job.journal.read(cursor)))
    assert isinstance(ending, events.End | events.Error)
    return ending


def _relay_ends() -> Unavailable:
    return Unavailable("the relay is shutting down", code="server_shutdown", retry_after_s=1)


def _dismiss(client: Client) -> None:
    """Let a connection's reader leave: what is answered now is no stream."""
    if client.reader is not None:
        client.reader.leave()
    client.reader = None


def failure_of(error: events.ErrorBody, *, retryable: bool) -> ApiError:
    """Return the error of a job as an answer: whose fault it is says the status."""
    status = 503 if retryable else 400 if error.param or error.type == "invalid_request_error" else 500
    if error.code == "cancelled":
        status = 409
    return ApiError(
        status,
        error.code,
        error.message,
        param=error.param,
        retryable=retryable,
        retry_after_s=1 if status == 503 else None,
    )

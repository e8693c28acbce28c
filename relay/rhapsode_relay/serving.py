"""Serve connections: uvicorn's protocol, with bounds on what a client can make us keep. Called by `hosting`.

uvicorn's parser bounds neither headers nor the time they may take, and answers what it cannot parse in plain text.
`BoundedProtocol` adds both bounds and our error body, and a way to cut off a client that refuses data.
"""

import asyncio
import contextlib
import fcntl
import socket
import sys
import termios
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol, cast

import msgspec
from quart.asgi import ASGIHTTPConnection
from quart.utils import encode_headers
from quart.wrappers import Request
from quart.wrappers.request import Body
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from rhapsode_contract import events, names
from rhapsode_relay.errors import error_type
from rhapsode_relay.reading import Reader

MAX_HEAD_BYTES = 32 * 1024
"""Request line and headers together."""
MAX_HEADERS = 100
MAX_AHEAD = 8
"""Requests that may come before the answer to the first one is complete."""
MAX_MESSAGE_BYTES = 8 * names.MAX_BODY_BYTES
"""A whole request as it comes over the wire: the largest body in the smallest sensible chunks."""
HEAD_TIMEOUT_S = 15.0
"""Seconds until the headers of a request must be complete, from when the connection is there or more comes."""
BODY_TIMEOUT_S = 30.0
"""Seconds until the body of a request must be complete."""
_SCOPE_KEY = "rhapsode.client"


class Passage(Protocol):
    """An answer that writes itself: another replica's that is passed on, or a WebSocket's."""

    async def serve(self, send: Any) -> None: ...

    def leave(self) -> None: ...


class Client:
    """The connection that a request came over; as an outlet it writes chunks of the response's body.

    It writes to the transport itself: the way through Quart's and uvicorn's coroutines costs a task switch and
    more time than everything else that the relay does for a token.
    """

    def __init__(self, protocol: "BoundedProtocol", *, full: bool) -> None:
        self._protocol = protocol
        self._write = protocol.transport.write
        self.full = full
        self.reader: Reader | None = None
        self.passage: Passage | None = None
        self.at_end: Callable[[], None] = lambda: None
        """Called when the request is over, however it ended."""
        self.cycle: RequestResponseCycle | None = None
        """uvicorn's name for a request and its answer."""

    def write(self, chunk: bytes) -> None:
        try:
            self._write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        except RuntimeError:  # uvloop's word for a connection that broke a moment ago
            self.full = True

    def send(self, data: bytes) -> None:
        """Write bytes as they are, for another protocol than HTTP."""
        with contextlib.suppress(RuntimeError):
            self._write(data)

    @property
    def unsent(self) -> int:
        """Bytes that the client's machine has not taken yet: ours, and those that the kernel has of us."""
        transport = self._protocol.transport
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # it is closed
            return transport.get_write_buffer_size() + _queued(transport.get_extra_info("socket"))
        return 0

    def upgrade(self, hear: Callable[[bytes], None]) -> None:
        """Speak another protocol from now on; `hear` is given all that comes."""
        if self.cycle is not None:
            self.cycle.response_started = True  # or uvicorn would answer 500 amid it, when it cuts off who is left
        self._protocol.hear = hear

    def close(self) -> None:
        """Close the connection once everything is written, although the answer has not come to its end."""
        self._protocol.transport.close()

    def abort(self) -> None:
        self._protocol.transport.abort()

    stall = abort


def _queued(connection: socket.socket) -> int:
    return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def client_of(scope: Any) -> Client:
    """Return the connection of a request."""
    return cast("Client", scope[_SCOPE_KEY])


_whole: Callable[[Body], Awaitable[Any]] = types.coroutine(Body.__await__)


class TimedBody(Body):
    """A body that must come in time.

    Quart's own bound is `asyncio.wait_for`, which until Python 3.12 forgets that the client left if it did so just
    when the body was complete: a job would run for nobody, and its reader wait.
    """

    def __await__(self) -> Generator[Any, None, Any]:
        return self._in_time().__await__()

    async def _in_time(self) -> Any:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _whole(self)


class PatientRequest(Request):
    """A request whose body is timed."""

    body_class = TimedBody


class StreamConnection(ASGIHTTPConnection):
    """Serves a reader's stream directly, and lets it leave whatever became of the connection."""

    async def handle_request(self, request: Request, send: Any) -> None:
        try:
            await super().handle_request(request, send)
        finally:
            client = client_of(self.scope)
            for leaving in (client.reader, client.passage):
                if leaving is not None:
                    leaving.leave()
            client.at_end()

    async def _send_response(self, send: Any, response: Any) -> None:
        client = client_of(self.scope)
        if client.passage is not None:
            await client.passage.serve(send)
            return
        reader = client.reader
        if reader is None:
            await super()._send_response(send, response)
            return
        headers = encode_headers(response.headers)
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await reader.serve()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Refused(Exception):
    """Raised inside the parser to stop it."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection, with bounds on its requests; `refused` is told the code of what was refused here."""

    def __init__(self, refused: Callable[[str], None], max_connections: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._refused = refused
        self._limit = max_connections
        self._refusal = (400, "invalid_http", "this is not HTTP/1.1")
        self._in_head = True
        self._head_bytes = 0
        self._header_count = 0
        self._message_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._clients: list[Client] = []
        """Who waits for an answer, in the order of the answers: a client may ask again before it has the last one."""
        self.hear: Callable[[bytes], None] | None = None  # once this is no HTTP any more

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > self._limit:
            self._refuse(503, "too_many_connections", f"{self._limit} connections are open, which is the limit")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        # uvicorn tells the last one only, and it may be the first one's answer that runs
        for client in self._clients:
            if client.cycle is not None:
                client.cycle.disconnected = True
                client.cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.hear is not None:
            self.hear(data)
            return
        super().data_received(data)
        if self._head_timer is None and self.cycle.response_complete:
            self._await_head()  # for uvicorn any byte ends the wait, be it of a body that nobody reads any more
        self._message_bytes += len(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "headers_too_large", f"headers may take {MAX_HEAD_BYTES} bytes")
        elif self._message_bytes > MAX_MESSAGE_BYTES:
            self._refuse(413, "body_too_large", f"a body may take {names.MAX_BODY_BYTES} bytes; send less")

    def pause_writing(self) -> None:
        super().pause_writing()
        for client in self._clients:
            client.full = True

    def resume_writing(self) -> None:
        super().resume_writing()
        for client in self._clients:
            client.full = False
            if client.reader is not None:
                client.reader.ring()

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes, self._header_count, self._message_bytes = True, 0, 0, 0
        client = Client(self, full=self.flow.write_paused)
        cast("dict[str, Any]", self.scope)[_SCOPE_KEY] = client
        self._clients.append(client)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_count += 1
        if self._header_count > MAX_HEADERS:
            self._refusal = (431, "headers_too_large", f"a request may have {MAX_HEADERS} headers")
            raise _Refused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        self._stop_timer()
        self._clients[-1].cycle = self.cycle
        if self.pipeline:
            self._read_ahead()

    def on_response_complete(self) -> None:
        del self._clients[:1]
        super().on_response_complete()

    def _read_ahead(self) -> None:
        """Go on reading, although the answer to the first request is under way: or its client could not leave."""
        if len(self.pipeline) > MAX_AHEAD:
            self.transport.abort()
        else:
            self.flow.resume_reading()

    # Refusing

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        self._refuse(*self._refusal)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._refused(code)
        error = events.ErrorBody(message=message, type=error_type(status), code=code)
        body = msgspec.json.encode(events.ErrorResponse(error=error, correlation_id="", retryable=status == 503))
        retry = b"retry-after: 1\r\n" if status == 503 else b""
        head = b"content-type: application/json\r\nconnection: close\r\n%bcontent-length: %d\r\n\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], head % (retry, len(body)), body)))
        self.transport.close()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self._refuse(408, "request_timeout", f"headers must come within {HEAD_TIMEOUT_S:.0f} s")
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

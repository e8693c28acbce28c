"""Serve an application on a port: uvicorn, with bounds on what a client can make us keep. Called by `__main__`.

uvicorn's parser bounds neither headers nor the time they may take, and answers what it cannot parse in plain
text. `BoundedProtocol` adds both bounds and our error body, and gives the application a way to cut off a
client that refuses data (closing would wait for it).
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Generator
from typing import Any, Protocol, cast

import msgspec
import uvicorn
from quart.asgi import ASGIHTTPConnection
from quart.utils import encode_headers
from quart.wrappers import Request
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
"""Seconds until the headers of a request must be complete."""
_SCOPE_KEY = "rhapsode.client"


class Passage(Protocol):
    """An answer of another replica that is passed on."""

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
        self.cycle: RequestResponseCycle | None = None
        """uvicorn's name for a request and its answer."""

    def write(self, chunk: bytes) -> None:
        try:
            self._write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        except RuntimeError:  # uvloop's word for a connection that broke a moment ago
            self.full = True

    def close(self) -> None:
        """Close the connection once everything is written, although the answer has not come to its end."""
        self._protocol.transport.close()

    def abort(self) -> None:
        self._protocol.transport.abort()


def client_of(scope: Any) -> Client:
    """Return the connection of a request."""
    return cast("Client", scope[_SCOPE_KEY])


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
    """One connection, with bounds on its requests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusal = (400, "invalid_http", "this is not HTTP/1.1")
        self._in_head = True
        self._head_bytes = 0
        self._header_count = 0
        self._message_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._clients: list[Client] = []
        """Who waits for an answer, in the order of the answers: a client may ask again before it has the last one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()
        limit = self.config.limit_concurrency
        if limit is not None and len(self.connections) > limit:
            self._refuse(503, "too_many_connections", f"{limit} connections are open, which is the limit")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        for (
            client
        ) in self._clients:  # uvicorn tells the last one only, and it may be the first one's answer that runs
            if client.cycle is not None:
                client.cycle.disconnected = True
                client.cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._message_bytes += len(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "headers_too_large", f"headers may take {MAX_HEAD_BYTES} bytes")
        elif self._message_bytes > MAX_MESSAGE_BYTES:
            self._refuse(413, "body_too_large", f"a body may take {names.MAX_BODY_BYTES} bytes")

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
        self._stop_timer()
        super().on_headers_complete()
        self._clients[-1].cycle = self.cycle
        if self.pipeline:
            self._read_ahead()

    def on_response_complete(self) -> None:
        del self._clients[:1]
        super().on_response_complete()
        if not self.transport.is_closing():
            self._stop_timer()

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
        error = events.ErrorBody(message=message, type=error_type(status), code=code)
        body = msgspec.json.encode(events.ErrorResponse(error=error, correlation_id="", retryable=status == 503))
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n" % len(body)
        retry = b"retry-after: 1\r\n" if status == 503 else b""
        self.transport.write(b"".join((STATUS_LINE[status], head, retry, b"\r\n", body)))
        self.transport.close()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self._refuse(408, "request_timeout", f"headers must come within {HEAD_TIMEOUT_S:.0f} s")

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Server(uvicorn.Server):
    """A uvicorn that leaves signals to us, and wakes once a second rather than ten times."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopped = asyncio.Event()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), 1)

    def stop(self) -> None:
        """Take no new connections, close the idle ones, and end."""
        self.should_exit = True
        self._stopped.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def make_server(app: Any, max_connections: int) -> Server:
    """Return a server for an application; it is given its socket when it serves."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        server_header=False,
        limit_concurrency=max_connections,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    return Server(config)


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket. OSError names what is wrong with the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound

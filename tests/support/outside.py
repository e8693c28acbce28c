"""A real HTTP server that plays sinks and context sources, each as the test says, and remembers what it was sent."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from support.processes import wait_until


class Called(NamedTuple):
    """One call as it came."""

    path: str
    method: str
    query: str
    headers: dict[str, str]
    body: Any


class _Server(ThreadingHTTPServer):
    """Lets a crowd knock at once; the usual five are a few too few."""

    daemon_threads = True
    request_queue_size = 512


class Outside:
    """Answers 204 to everything, but where the test says otherwise."""

    def __init__(self) -> None:
        self.calls: list[Called] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        """Status and body, by path. A status of 0 cuts the connection."""
        self.held: dict[str, threading.Event] = {}
        """Paths that answer only once the event is set."""
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def hold(self, path: str) -> threading.Event:
        """Let a path wait, for a minute at most, until the event is set."""
        self.held[path] = threading.Event()
        return self.held[path]

    def paths(self) -> list[str]:
        return [call.path for call in list(self.calls)]

    def wait_call(self, path: str) -> Called:
        wait_until(lambda: path in self.paths(), f"{path} is called")
        return next(call for call in self.calls if call.path == path)

    def close(self) -> None:
        for event in self.held.values():
            event.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


def _handler(outside: Outside) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            outside.calls.append(Called(path, self.command, query, headers, json.loads(body) if body else None))
            if path in outside.held:
                outside.held[path].wait(60)
            status, content = outside.answers.get(path, (204, b""))
            with contextlib.suppress(OSError):
                self._say(status, content)

        def _say(self, status: int, content: bytes) -> None:
            if not status:
                self.connection.close()
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    return Handler


@contextlib.contextmanager
def outside() -> Iterator[Outside]:
    """Run a server for the sinks and sources of one test."""
    server = Outside()
    try:
        yield server
    finally:
        server.close()

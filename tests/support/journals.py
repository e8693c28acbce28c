"""Run the example's journal as a process, and stand between it and whoever calls it to make it slow, wrong or away."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from support.documents import ROOT
from support.processes import DEADLINE_S

FOLDER = ROOT / "examples/dungeon-master"


class Journal:
    """A journal process that can be killed and started again over the same file."""

    def __init__(self, database: Path, *args: str) -> None:
        self._command = [sys.executable, "-m", "journal", "--port", "0", "--database", str(database), *args]
        self.database = database
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, cwd=FOLDER, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        self.url = self.said.split()[-1]
        self.client = httpx.Client(base_url=self.url, timeout=DEADLINE_S)

    def post(self, kind: str, entry: Any, key: str | None = None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.client.post(f"/{kind}", json=entry, headers=headers)

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def end(self, sent: signal.Signals) -> int:
        """Send a signal and return the exit status."""
        self.client.close()
        self.process.send_signal(sent)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)


@contextlib.contextmanager
def running_journal(*args: str) -> Iterator[Journal]:
    """Run a journal over a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal.db", *args)
        try:
            yield journal
        finally:
            journal.close()


class Call(NamedTuple):
    """One request that came to the proxy."""

    method: str
    path: str
    headers: httpx.Headers
    body: bytes


def _bound(port: int) -> socket.socket:
    """Return a socket that has a port and does not listen."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", port))
    return place


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """Yield an address where whoever connects is refused, and nobody begins to listen."""
    with _bound(0) as place:
        yield f"http://127.0.0.1:{place.getsockname()[1]}"


class Between:
    """A proxy before a journal. `calls` holds what came; paths can be made to answer something else, or never."""

    def __init__(self, target: str) -> None:
        self.calls: list[Call] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        """What a path answers in the journal's place."""
        self.held: dict[str, threading.Event] = {}
        """Paths that are not answered before their event is set, or the proxy ends."""
        self._target = target
        self._listen(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def hold(self, path: str) -> threading.Event:
        """Answer nothing on a path until the returned event is set."""
        return self.held.setdefault(path, threading.Event())

    def go_away(self) -> None:
        """Listen no more: who connects is refused, and nobody else gets the port."""
        for event in self.held.values():
            event.set()
        self._server.shutdown()
        self._server.server_close()
        self._place = _bound(self._port)

    def come_back(self) -> None:
        """Listen again, at the same address."""
        self._listen(self._port)
        self._place.close()

    def close(self) -> None:
        self.go_away()
        self._place.close()

    def paths(self) -> list[str]:
        return [call.path for call in self.calls]

    def answer(self, call: Call) -> tuple[int, bytes]:
        """Return what a request gets: a set answer, or the journal's."""
        self.calls.append(call)
        path = call.path.partition("?")[0]
        if path in self.held:
            self.held[path].wait(DEADLINE_S)
        if path in self.answers:
            return self.answers[path]
        passed = {name: value for name, value in call.headers.items() if name.lower() not in ("host", "connection")}
        done = httpx.request(
            call.method, self._target + call.path, headers=passed, content=call.body, timeout=DEADLINE_S
        )
        return done.status_code, done.content

    def _listen(self, port: int) -> None:
        between = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                status, answer = between.answer(
                    Call(self.command, self.path, httpx.Headers(dict(self.headers)), body)
                )
                with contextlib.suppress(OSError):  # who called may have given up
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_PATCH = handle_any  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@contextlib.contextmanager
def between(target: str) -> Iterator[Between]:
    """Stand before a journal."""
    proxy = Between(target)
    try:
        yield proxy
    finally:
        proxy.close()


def exits(*args: str) -> subprocess.CompletedProcess[str]:
    """Run a journal that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "journal", *args],
        cwd=FOLDER, env=os.environ, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip

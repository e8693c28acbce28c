"""A relay that does what a test says, at the other end of a worker's socket."""

import socket
import time
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from rhapsode_contract import frames

_decoder = msgspec.json.Decoder(frames.WorkerFrame)
F = TypeVar("F", bound=frames.WorkerFrame)


class FakeRelay:
    """Listens on the worker socket, and speaks with one worker at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server: socket.socket | None = None
        self.sock: socket.socket | None = None
        self.heard: list[frames.WorkerFrame] = []
        self._rest = b""

    def listen(self) -> None:
        """Be there for whoever connects, if this is not so yet."""
        if self._server is None:
            self._server = socket.socket(socket.AF_UNIX)
            self._server.bind(str(self.path))
            self._server.listen(8)
            self._server.settimeout(60)

    def meet(self) -> frames.Hello:
        """Listen, and take the next connection; return its hello."""
        self.listen()
        assert self._server is not None
        self.sock, _ = self._server.accept()
        self.sock.settimeout(60)
        self._rest = b""
        return self.wait(frames.Hello)

    def send(self, *sent: frames.RelayFrame) -> None:
        assert self.sock is not None
        self.sock.sendall(b"".join(map(frames.encode_frame, sent)))

    def wait(self, kind: type[F], **wanted: Any) -> F:
        """Return the next frame of a kind with these values; what comes before is in `heard`."""
        deadline = time.monotonic() + 60
        while True:
            for at, frame in enumerate(self.heard):
                if isinstance(frame, kind) and all(getattr(frame, name) == value for name, value in wanted.items()):
                    del self.heard[: at + 1]
                    return frame
            assert time.monotonic() < deadline, f"no {kind.__name__} {wanted} in {self.heard[-5:]}"
            self._receive()

    def until(self, kind: type[F], **wanted: Any) -> list[frames.WorkerFrame]:
        """Return all frames up to one of a kind, it included."""
        seen: list[frames.WorkerFrame] = []
        deadline = time.monotonic() + 60
        while True:
            while self.heard:
                seen.append(frame := self.heard.pop(0))
                if isinstance(frame, kind) and all(getattr(frame, name) == value for name, value in wanted.items()):
                    return seen
            assert time.monotonic() < deadline, f"no {kind.__name__} {wanted} in {seen[-5:]}"
            self._receive()

    def die(self) -> None:
        """Go away, as a relay does that is killed; `meet` comes back."""
        for sock in (self._server, self.sock):
            if sock is not None:
                sock.close()
        self._server = self.sock = None
        self._rest = b""
        self.heard.clear()
        self.path.unlink(missing_ok=True)

    def _receive(self) -> None:
        assert self.sock is not None
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionResetError("the worker hung up")
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.heard += [_decoder.decode(line) for line in lines]

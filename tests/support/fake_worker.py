"""A worker that does what a test says, over the real worker socket."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from rhapsode_contract import frames
from rhapsode_contract.guides import GUIDE_WORDS

_decoder = msgspec.json.Decoder(frames.RelayFrame)
F = TypeVar("F")


def spoken(job: frames.Generate, *texts: str, start: int = 0) -> list[frames.Token]:
    """Return tokens, one frame each."""
    return [frames.Token(job_id=job.job_id, i=start + at, t=text) for at, text in enumerate(texts)]


def finished(job: frames.Generate, tokens: int) -> frames.Finish:
    return frames.Finish(job_id=job.job_id, stop_reason="stop", tokens_out=tokens, prompt_tokens=3, decode_time_ms=1)


class FakeWorker:
    """One connection to a relay's worker socket."""

    def __init__(self, path: Path, *, slots: int = 8, hello: bool = True, ready: bool = True, **said: Any) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(path))
        self._rest = b""
        self._sending = threading.Lock()
        self._waiting: list[frames.RelayFrame] = []
        keeps = {kind: bool(said.pop(kind, False)) for kind in (*GUIDE_WORDS, "tools", "penalties", "logprobs")}
        caps = frames.Caps(slots=slots, context_tokens=100_000, **keeps)
        if hello:
            defaults: dict[str, Any] = {"proto": 1, "boot_id": "boot", "engine": "Fake", "model": "sim", "caps": caps}
            greeting: list[frames.WorkerFrame] = [
                frames.Hello(**(defaults | said)),
                frames.State(phase="ready", caps=caps),
            ]
            self.send(*greeting[: 1 + ready])  # in one piece: a relay that refuses closes the connection at once

    def send(self, *sent: frames.WorkerFrame) -> None:
        self.raw(b"".join(map(frames.encode_frame, sent)))

    def raw(self, data: bytes) -> None:
        with self._sending:
            self.sock.sendall(data)

    @contextlib.contextmanager
    def breathing(self) -> Iterator[Self]:
        """Give signs of life, for a worker that several tests share: one that is silent for 20 s is lost."""
        over = threading.Event()

        def breathe() -> None:
            with contextlib.suppress(OSError):
                while not over.wait(2):
                    self.send(frames.Stats())

        thread = threading.Thread(target=breathe)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()

    def receive(self, kind: type[F] | tuple[type[F], ...]) -> F:
        """Return the next frame of a kind; others stay for later."""
        while True:
            for frame in self._waiting:
                if isinstance(frame, kind):
                    self._waiting.remove(frame)
                    return frame
            data = self.sock.recv(1 << 16)
            if not data:
                raise ConnectionResetError("the relay closed the connection")
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._waiting += [_decoder.decode(line) for line in lines]

    def begin(self, *, prompt_tokens: int = 3) -> frames.Generate:
        """Take the next job and start it."""
        job = self.receive(frames.Generate)
        self.send(frames.Prefill(job_id=job.job_id, prompt_tokens=prompt_tokens))
        return job

    def speak(self, job: frames.Generate, *texts: str, start: int = 0) -> None:
        """Send tokens, one frame each."""
        self.send(*spoken(job, *texts, start=start))

    def finish(self, job: frames.Generate, tokens: int) -> None:
        self.send(finished(job, tokens))

    def serve(self, *texts: str) -> frames.Generate:
        """Take the next job and answer it with these tokens, in one piece: a tick of the relay between would measure."""
        job = self.begin()
        self.send(*spoken(job, *texts), finished(job, len(texts)))
        return job

    def is_closed(self, seconds: float = 60.0) -> bool:
        """Return whether the relay closes this connection."""
        deadline = time.monotonic() + seconds
        self.sock.settimeout(seconds)
        while time.monotonic() < deadline:
            try:
                if not self.sock.recv(1 << 16):
                    return True
            except ConnectionResetError:
                return True
            except TimeoutError:
                return False
        return False

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

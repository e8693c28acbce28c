"""Where tokens come from: `python -m bench.source relay|http SOCKET PLAN`.

Plays the worker to a relay (one Unix connection, frames of the worker socket), or an HTTP server on a Unix socket
that sends the very events that the relay would send. One thread, no event loop: the same work for either.
"""

import heapq
import re
import selectors
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import ClassVar

import msgspec

from bench.plans import Plan, read_plan, say
from rhapsode_contract import frames
from rhapsode_contract.frames import TOKEN_SEPARATOR, encode_frame
from rhapsode_relay.encoding import StreamEncoder

HEADERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
TEXT = " the"
SETTLE_S = 1.0
"""Paced streams begin together, when all are open: latency of streaming, not of opening."""


class Feed:
    """One stream: what is sent next, over which socket."""

    def __init__(self, plan: Plan, sock: socket.socket) -> None:
        self.plan = plan
        self.sock = sock
        self.sent = 0
        self.unsent = b""

    def next(self) -> bytes:
        """Return the next write."""
        n = min(self.plan.batch, self.plan.tokens - self.sent)
        data = self.encode(self.sent, n)
        self.sent += n
        return data if self.sent < self.plan.tokens else data + self.end()

    def encode(self, i: int, n: int) -> bytes:
        raise NotImplementedError

    def end(self) -> bytes:
        raise NotImplementedError

    @property
    def done(self) -> bool:
        return self.sent >= self.plan.tokens and not self.unsent


class WorkerFeed(Feed):
    """A job of a relay."""

    def __init__(self, plan: Plan, sock: socket.socket, job_id: str) -> None:
        super().__init__(plan, sock)
        self.job_id = job_id

    def encode(self, i: int, n: int) -> bytes:
        if n == 1:
            text = str(time.perf_counter_ns()) if self.plan.stamp else TEXT
            return encode_frame(frames.Token(job_id=self.job_id, i=i, t=text))
        return encode_frame(frames.Token(job_id=self.job_id, i=i, ts=TOKEN_SEPARATOR.join([TEXT] * n)))

    def end(self) -> bytes:
        return encode_frame(
            frames.Finish(job_id=self.job_id, stop_reason="length", tokens_out=self.plan.tokens, prompt_tokens=1)
        )


class HttpFeed(Feed):
    """A response of an HTTP server."""

    encoder = StreamEncoder("bench-0123456789abcdef", "mwpql7qe", "req-0123456789abcdef")
    ready: ClassVar[dict[tuple[int, int], bytes]] = {}

    def encode(self, i: int, n: int) -> bytes:
        if self.plan.stamp:
            return _chunk(self.encoder.token(str(time.perf_counter_ns()), i + 5, i))
        if (data := self.ready.get((i, n))) is None:
            events = self.encoder.tokens(TOKEN_SEPARATOR.join([TEXT] * n), n, i + 5, i)
            data = self.ready[i, n] = _chunk(events)
        return data

    def end(self) -> bytes:
        return _chunk(b"event: done\ndata: {}\n\n") + b"0\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Pump:
    """Sends what is due on all feeds, in turn."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.greedy: deque[Feed] = deque()
        self.due: list[tuple[float, int, Feed]] = []
        self.waiting: list[Feed] = []

    def add(self, feed: Feed) -> None:
        if not self.plan.rate:
            self.greedy.append(feed)
            return
        self.waiting.append(feed)
        if len(self.waiting) < self.plan.streams:
            return
        start = time.perf_counter() + SETTLE_S
        for number, one in enumerate(self.waiting):
            heapq.heappush(self.due, (start + (number * 0.618034 % 1) / self.plan.rate, number, one))

    def work(self) -> float | None:
        """Send what is due; return the seconds until more is."""
        if self.plan.rate:
            return self._paced()
        for _ in range(64 * len(self.greedy)):
            feed = self.greedy.popleft()
            if not _send(feed, feed.unsent or feed.next()):
                self.greedy.append(feed)
                return 0.0005
            if not feed.done:
                self.greedy.append(feed)
            elif not self.greedy:
                return None
        return 0 if self.greedy else None

    def _paced(self) -> float | None:
        now = time.perf_counter()
        while self.due and self.due[0][0] <= now:
            at, number, feed = heapq.heappop(self.due)
            feed.sock.sendall(feed.next())
            if not feed.done:
                heapq.heappush(self.due, (at + 1 / self.plan.rate, number, feed))
            now = time.perf_counter()
        return max(0.0, self.due[0][0] - now) if self.due else None


def _send(feed: Feed, data: bytes) -> bool:
    """Send without waiting; keep what the socket does not take."""
    try:
        n = feed.sock.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        n = 0
    feed.unsent = data[n:]
    return not feed.unsent


def serve_relay(path: str, plan: Plan) -> None:
    """Be the worker of a relay."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    caps = frames.Caps(slots=4096, context_tokens=1_000_000)
    sock.sendall(encode_frame(frames.Hello(proto=1, boot_id="bench", engine="Bench", model="sim", caps=caps)))
    sock.sendall(encode_frame(frames.State(phase="ready", caps=caps)))
    decoder = msgspec.json.Decoder(frames.RelayFrame)
    pump, rest = Pump(plan), b""
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    while True:
        for _ in selector.select(pump.work()):
            data = sock.recv(1 << 18)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                command = decoder.decode(line)
                if isinstance(command, frames.Generate):
                    sock.sendall(encode_frame(frames.Prefill(job_id=command.job_id, prompt_tokens=1)))
                    pump.add(WorkerFeed(plan, sock, command.job_id))
                elif isinstance(command, frames.Cancel):
                    say(f"cancel {time.perf_counter_ns()}")


def serve_http(path: str, plan: Plan) -> None:
    """Be the HTTP server behind a proxy."""
    Path(path).unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    Path(path).chmod(0o777)
    server.listen(4096)
    say("ready")
    pump = Pump(plan)
    selector = selectors.DefaultSelector()
    selector.register(server, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select(pump.work()):
            if key.fileobj is server:
                connection, _ = server.accept()
                selector.register(connection, selectors.EVENT_READ)
            else:
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                try:
                    data = sock.recv(1 << 16)
                except ConnectionResetError:
                    data = b""
                if not data:
                    selector.unregister(sock)
                    sock.close()
                elif re.search(rb"\r\n\r\n", data):
                    sock.sendall(HEADERS)
                    pump.add(HttpFeed(plan, sock))


if __name__ == "__main__":
    kind, path, text = sys.argv[1:]
    (serve_relay if kind == "relay" else serve_http)(path, read_plan(text))

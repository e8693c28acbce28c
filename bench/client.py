"""Who reads: `python -m bench.client ADDRESS PLAN`. Opens the plan's streams, reads them to the end, prints figures.

ADDRESS is a port on loopback, or the path of a Unix socket. One thread, no event loop.
"""

import re
import selectors
import socket
import sys
import time

import msgspec

from bench.plans import Plan, read_plan, say

BODY = b'{"prompt":"x","max_tokens":1000000,"narration":{"level":"error"}}'
REQUEST = (
    b"POST /v1/inference HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n"
    b"X-Correlation-Id: req-0123456789abcdef\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
STAMP = re.compile(rb'"t":"(\d+)"')
TOKEN = b"event: token\n"
END = b"event: done\n"
FRAMING = re.compile(rb"\r\n[0-9a-f]+\r\n")
"""Between two chunks of HTTP; a proxy may put it anywhere, and an event has no carriage return."""


class Stream:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.tail = b""
        self.tokens = 0

    def take(self, data: bytes, stamps: list[tuple[int, int]], now: int, *, stamped: bool) -> bool:
        """Count a piece of the stream; return whether it has ended."""
        raw = self.tail + data
        whole = FRAMING.sub(b"", raw)
        cut = whole.rfind(b"\n\n") + 2
        if cut == 1:
            self.tail = raw
            return False
        self.tail = whole[cut:]
        if stamped:
            found = STAMP.findall(whole, 0, cut)
            stamps += [(int(at), now) for at in found]
            self.tokens += len(found)
        else:
            self.tokens += whole.count(TOKEN, 0, cut)
        return END in whole


def connect(address: str) -> socket.socket:
    if address.isdigit():
        sock = socket.create_connection(("127.0.0.1", int(address)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(address)
    return sock


def read(address: str, plan: Plan) -> dict[str, object]:
    """Read all streams; return tokens, seconds and latencies in milliseconds."""
    selector = selectors.DefaultSelector()
    stamps: list[tuple[int, int]] = []
    streams = []
    began = time.perf_counter()
    for _ in range(plan.streams):
        stream = Stream(connect(address))
        stream.sock.sendall(REQUEST)
        selector.register(stream.sock, selectors.EVENT_READ, stream)
        streams.append(stream)
    live, first = plan.streams, 0.0
    while live:
        ready = selector.select(30)
        if not ready:
            break
        for key, _ in ready:
            data = key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
            now = time.perf_counter_ns()
            first = first or time.perf_counter()
            if not data or key.data.take(data, stamps, now, stamped=plan.stamp):
                selector.unregister(key.fileobj)
                live -= 1
    ended = time.perf_counter()
    tokens = sum(stream.tokens for stream in streams)
    late = sorted((got - at) / 1e6 for at, got in stamps)
    return {
        "tokens": tokens,
        "missing": plan.streams * plan.tokens - tokens,
        "seconds": ended - (first if not plan.rate else began),
        "p50": late[len(late) // 2] if late else None,
        "p99": late[len(late) * 99 // 100] if late else None,
    }


if __name__ == "__main__":
    say(msgspec.json.encode(read(sys.argv[1], read_plan(sys.argv[2]))).decode())

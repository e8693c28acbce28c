"""Who plays turns: `python -m bench.turns.asking ADDRESS PID TURNS AT_ONCE`, one connection a turn; prints figures.

One thread, no event loop. Where turns come one after the other, the CPU time that the relay (PID) took is read after
each, from the kernel's own count of nanoseconds.
"""

import json
import re
import selectors
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.client import connect
from bench.plans import say
from bench.turns.games import CALLS, REQUEST

BODY = json.dumps(REQUEST).encode()
HEAD = (
    b"POST /v1/turns HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n"
    b"X-Correlation-Id: %b\r\nContent-Length: %d\r\n\r\n%b"
)
DONE = b"event: done\n"
CALLED = re.compile(rb'"(?:context_ms|ms)":([0-9.]+)')
"""What the relay says of the time that its source of context took, and each of its sinks."""
WRITTEN = b'"status":"written"'


class Played(NamedTuple):
    """One turn: its correlation id, and milliseconds: all of it, its calls as the relay saw them, the relay's CPU."""

    turn: str
    wall: float
    calls: float
    cpu: float
    whole: bool


class Turn:
    """One turn that is being played."""

    def __init__(self, address: str, number: int) -> None:
        self.name = f"bench-{number}"
        self.data = b""
        self.began = time.perf_counter()
        self.sock = connect(address)
        self.sock.sendall(HEAD % (self.name.encode(), len(BODY), BODY))

    def take(self) -> bool:
        """Read what is there; return whether the turn goes on."""
        data = self.sock.recv(1 << 18)
        self.data += data
        return bool(data) and DONE not in self.data[-len(data) - len(DONE) :]

    def played(self, cpu: float) -> Played:
        """Tell of a turn that is over."""
        wall = (time.perf_counter() - self.began) * 1000
        self.sock.close()
        end = self.data.partition(b"event: end\n")[2]
        calls = sum(map(float, CALLED.findall(end)))
        return Played(self.name, wall, calls, cpu, end.count(WRITTEN) == CALLS - 1)


def play(address: str, pid: int, turns: int, at_once: int) -> list[Played]:
    """Play turns, so many at once; return them as they ended."""
    selector = selectors.DefaultSelector()
    played: list[Played] = []
    before = cpu_ms(pid)
    begun = 0
    while len(played) < turns:
        while begun < min(turns, len(played) + at_once):
            turn = Turn(address, begun)
            selector.register(turn.sock, selectors.EVENT_READ, turn)
            begun += 1
        ready = selector.select(30)
        if not ready:
            break
        for key, _ in ready:
            if not key.data.take():
                selector.unregister(key.fileobj)
                now = cpu_ms(pid) if at_once == 1 else before
                played.append(key.data.played(now - before))
                before = now
    return played


def cpu_ms(pid: int) -> float:
    """Return the milliseconds of CPU that all threads of a process took so far."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e6


if __name__ == "__main__":
    address, *numbers = sys.argv[1:]
    say(msgspec.json.encode(play(address, *map(int, numbers))).decode())

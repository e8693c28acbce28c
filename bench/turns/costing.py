"""What a turn costs its relay: time and memory, beside the model, the sinks and the text. Called by the command."""

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.peers import LOAD_CORE, Peer, pinned, running_relay
from bench.turns.answering import Spent
from bench.turns.asking import BODY, HEAD, Played
from bench.turns.games import text_bytes, write_game
from support.processes import free_port

WARM_UP = 100
"""Turns that are played before anything is measured: the HTTP client is loaded, templates and pools are warm."""
KIB = 1024


class Cost(NamedTuple):
    """Of one turn, in ms: what was neither the model's nor a sink's, `own` without the calls, and the relay's CPU."""

    unfinished: int
    p50: float
    p99: float
    own_p50: float
    own_p99: float
    cpu_p50: float
    cpu_p99: float
    cpu: float
    """The mean."""
    turns_s: float


class Table(NamedTuple):
    """A relay with model and sinks."""

    peer: Peer
    journal: int


@contextlib.contextmanager
def playing(hold: str = "") -> Iterator[Table]:
    """Run a relay with the example's contract, and who answers it. `hold` is what they never answer."""
    with tempfile.TemporaryDirectory() as text:
        folder, journal = Path(text), free_port()
        with running_relay(folder, write_game(folder, journal)) as peer:
            module = (sys.executable, "-m", "bench.turns.answering")
            command = pinned(LOAD_CORE, *module, peer.source, str(journal), *([hold] if hold else []))
            others = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert others.stdout is not None
            others.stdout.readline()
            try:
                yield Table(peer, journal)
            finally:
                others.kill()
                others.communicate()


def play(table: Table, turns: int, at_once: int) -> Cost:
    """Play turns; return what each cost."""
    before, began = table.peer.cpu_s(), time.monotonic()
    numbers = (str(table.peer.pid), str(turns), str(at_once))
    command = pinned(LOAD_CORE, sys.executable, "-m", "bench.turns.asking", table.peer.address, *numbers)
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout
    seconds, cpu = time.monotonic() - began, table.peer.cpu_s() - before
    with urllib.request.urlopen(f"http://127.0.0.1:{table.journal}/spent", timeout=60) as answer:
        spent = json.load(answer)
    return _cost([Played(*one) for one in json.loads(said)], spent, turns, cpu, seconds)


def _cost(played: list[Played], spent: Spent, turns: int, cpu: float, seconds: float) -> Cost:
    own = [one.wall - spent[one.turn]["model"] - one.calls for one in played]
    ours = [one.wall - sum(spent[one.turn].values()) for one in played]
    return Cost(
        turns - sum(one.whole for one in played),
        *_middle_and_end(ours),
        *_middle_and_end(own),
        *_middle_and_end([one.cpu for one in played]),
        cpu * 1000 / turns,
        turns / seconds,
    )


def _middle_and_end(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), sorted(values)[len(values) * 99 // 100]


def time_of_turns(rounds: int, turns: int = 400) -> dict[int, Cost]:
    """Return the cost of turns that come so many at once, of its quietest round: a neighbour only adds."""
    found: dict[int, Cost] = {}
    with playing() as table:
        play(table, WARM_UP, 1)
        for _ in range(rounds):
            for at_once in (1, 8, 32):
                cost = play(table, turns, at_once)
                found[at_once] = min(found.get(at_once, cost), cost, key=lambda one: one.p99)
    return found


def memory_of_running(
    hold: str, turns: int = 400, *, read: bool = True, warm_up: int = 50, settle_s: float = 2
) -> float:
    """Return KiB that a turn takes while it waits, its text not counted; with its client, if that reads along."""
    with playing(hold) as table, contextlib.ExitStack() as clients:
        _begin(table, warm_up, clients, read=read)
        time.sleep(settle_s)
        before = table.peer.rss_mib()
        _begin(table, turns, clients, read=read)
        time.sleep(settle_s)
        return (table.peer.rss_mib() - before) * KIB / turns - text_bytes() / KIB


def memory_of_kept(turns: int = 2000) -> float:
    """Return KiB that a turn takes that is over and can still be read, its text not counted."""
    with playing() as table:
        play(table, WARM_UP * 5, 1)
        before = table.peer.rss_mib()
        play(table, turns, 1)
        return (table.peer.rss_mib() - before) * KIB / turns - text_bytes() / KIB


def _begin(table: Table, turns: int, clients: contextlib.ExitStack, *, read: bool) -> None:
    """Begin turns that are streamed to a client each, or only accepted, and read by nobody."""
    head = HEAD if read else HEAD.replace(b"Accept: text/event-stream", b"Prefer: respond-async\r\nConnection: close")
    for _ in range(turns):
        client = socket.create_connection(("127.0.0.1", int(table.peer.address)))
        client.sendall(head % (b"held", len(BODY), BODY))
        while b"event: started" not in (data := client.recv(1 << 16)) and data:
            pass
        if read:
            clients.callback(client.close)
        else:
            client.close()

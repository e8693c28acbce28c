"""One plan against one peer: start source and client on the load core, and take the figures."""

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

from bench.peers import LOAD_CORE, Peer, pinned
from bench.plans import Plan, write_plan

OpenPeer = Callable[[], AbstractContextManager[Peer]]
LEAD_S, WINDOW_S = 2.5, 5.0
"""CPU time of paced streams is taken in a window in their middle: streaming, not opening."""


class Figures(NamedTuple):
    """What one run showed. Latencies in ms; CPU in seconds a million events, of the proxy alone."""

    name: str
    events_s: float
    missing: int
    p50: float
    p99: float
    cpu: float


@contextlib.contextmanager
def feeding(peer: Peer, plan: Plan) -> Iterator[subprocess.Popen[str]]:
    """Run the source that a peer needs."""
    command = pinned(LOAD_CORE, sys.executable, "-m", "bench.source", peer.kind, peer.source, write_plan(plan))
    source = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert source.stdout is not None
    if peer.kind == "http":
        source.stdout.readline()
    else:
        time.sleep(0.5)
    try:
        yield source
    finally:
        source.kill()
        source.communicate()


def start_client(peer: Peer, plan: Plan) -> subprocess.Popen[str]:
    """Start who reads; it tells its figures when it ends."""
    command = pinned(LOAD_CORE, sys.executable, "-m", "bench.client", peer.address, write_plan(plan))
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def run(open_peer: OpenPeer, plan: Plan) -> Figures:
    """Run one plan through one peer."""
    with open_peer() as peer, feeding(peer, plan):
        before = peer.cpu_s()
        client = start_client(peer, plan)
        events = plan.streams * plan.tokens
        if plan.rate:
            time.sleep(LEAD_S)
            before, began = peer.cpu_s(), time.monotonic()
            time.sleep(WINDOW_S)
            events = round(plan.streams * plan.rate * (time.monotonic() - began))
            cpu = peer.cpu_s() - before
        said = json.loads(client.communicate()[0])
        if not plan.rate:
            cpu = peer.cpu_s() - before
    return Figures(
        peer.name,
        said["tokens"] / said["seconds"],
        said["missing"],
        said["p50"] or 0,
        said["p99"] or 0,
        cpu / events * 1e6,
    )


def compare(peers: list[OpenPeer], plan: Plan, rounds: int) -> list[Figures]:
    """Run a plan through all peers in turn, round after round; return each peer's medians."""
    seen = [[run(peer, plan) for peer in peers] for _ in range(rounds)]
    return [_median(runs) for runs in zip(*seen, strict=True)]


def _median(runs: tuple[Figures, ...]) -> Figures:
    middle = [statistics.median(values) for values in list(zip(*runs, strict=True))[1:]]
    return Figures(runs[0].name, middle[0], max(one.missing for one in runs), *middle[2:])

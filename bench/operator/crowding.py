"""The scene with a crowd: resources whose pods run and whose relays tell, for as long as it takes to measure."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import NamedTuple

from bench.operator.creating import Spread, spread
from bench.operator.following import View, following
from bench.operator.resources import LOADING, RESOURCES, Seen, names
from bench.operator.staging import Nodes, Operator, Stage, stage
from support.processes import wait_until

LOADERS = 20
SETTLE_S = 20.0
"""Until nothing is done but listening: a new stream, a last Event."""
GAP_S = 2.0
"""Between two changes of phase of one worker: two changes within half a second are one write."""


class Crowd(NamedTuple):
    """What a crowd costs: MiB, shares of a core, and seconds."""

    idle_mib: float
    ready: float
    """Until all pods were seen Ready in the statuses."""
    mib: float
    cpu: float
    streams: int
    phase: Spread
    """Milliseconds from a phase change to the status."""
    first: float
    """From the start of a process to its first reconcile."""
    all: float
    """And until each was reconciled once."""
    restarted_mib: float
    errors: float


async def crowd(count: int, window_s: float, samples: int, settle_s: float = SETTLE_S) -> Crowd:
    """Gather a crowd and measure it."""
    with stage() as scene, scene.nodes() as nodes:
        with scene.leader() as operator:
            await asyncio.sleep(min(3, settle_s))
            idle = operator.rss_mib()
            ready = await _gather(scene, count)
            wait_until(lambda: nodes.streams() >= count + LOADERS, "all relays are listened to", 120)
            await asyncio.sleep(settle_s)
            mib, cpu, streams = operator.rss_mib(), _cpu(operator, window_s), nodes.streams()
            phase = await phases(scene, nodes, samples)
            errors = operator.errors()
        with scene.operator() as operator:
            first, every = _restart(operator, count + LOADERS)
            wait_until(lambda: nodes.streams() >= count + LOADERS, "all relays are listened to again", 120)
            await asyncio.sleep(settle_s)
            return Crowd(idle, ready, mib, cpu, streams, phase, first, every, operator.rss_mib(), errors)


async def _gather(scene: Stage, count: int) -> float:
    async with scene.caller() as api, following(api, RESOURCES) as view:
        began = time.perf_counter()
        await api.create_all(names(count))
        done = await view.until(lambda: sum(map(_is_ready, view.workers.values())) == count, "all pods are ready")
        await api.create_all(names(LOADERS, LOADING))
        await view.until(lambda: len(view.workers) == count + LOADERS, "those that load are there")
        return done - began


def _is_ready(worker: Seen) -> bool:
    return worker.status is not None and worker.status.ready_replicas == 1


def _cpu(operator: Operator, window_s: float) -> float:
    """Return the share of a core that the operator takes while nothing changes but figures."""
    before, began = operator.cpu_s(), time.monotonic()
    time.sleep(window_s)
    return (operator.cpu_s() - before) / (time.monotonic() - began)


def _restart(operator: Operator, count: int) -> tuple[float, float]:
    def reconciled(least: int) -> Callable[[], bool]:
        return lambda: operator.total("rhapsode_reconcile_total") >= least

    wait_until(reconciled(1), "the first is reconciled", 60)
    first = time.perf_counter() - operator.began
    wait_until(reconciled(count), "all are reconciled", 120)
    return first, time.perf_counter() - operator.began


async def phases(scene: Stage, nodes: Nodes, samples: int) -> Spread:
    """Change phases of workers that load, at random moments; return how long the statuses took."""
    async with scene.caller() as api, following(api, RESOURCES) as view:
        workers = names(LOADERS, LOADING)
        await view.until(lambda: all(_stage(view, name) for name in workers), "the statuses tell of loads", 60)
        each = -(-samples // LOADERS)
        taken = await asyncio.gather(*(_changes(view, nodes, name, each) for name in workers))
    return spread([ms for some in taken for ms in some])


async def _changes(view: View, nodes: Nodes, name: str, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        for phase, shown in (("ready", "loaded"), ("loading", "weights")):
            await asyncio.sleep(GAP_S * random.uniform(0.6, 1.4))
            told: list[dict[str, object]] = [{"type": "state", "seq": 0, "phase": phase}]
            if phase == "loading":
                told.append({"type": "load", "seq": 0, "stage": shown, "percent": 10})
            began = time.perf_counter()
            nodes.say(f"{name}-0", *told)
            seen = await view.until(lambda wanted=shown: _stage(view, name) == wanted, f"{name} is {shown}", 60)  # type: ignore[misc]
            taken.append((seen - began) * 1000)
    return taken


def _stage(view: View, name: str) -> str:
    status = view.workers[name].status if name in view.workers else None
    return status.load.stage if status and status.load else ""

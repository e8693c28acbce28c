"""How many status writes a load costs: 20 minutes on a clock that we turn, and one minute on a real one.

The first is the operator's own reconciler with its injected clock, over an API server in memory that counts; what a
relay tells is put into its tale each second, and the queue is one moment. The second is the whole operator.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from bench.operator.following import following
from bench.operator.resources import LOADING, RESOURCES
from bench.operator.staging import Nodes, stage
from rhapsode_contract import events
from rhapsode_contract.frames import Gpu
from rhapsode_contract.records import timestamp
from rhapsode_operator.posting import Poster
from rhapsode_operator.queueing import Key
from rhapsode_operator.reconciling import Ports, Reconciler
from rhapsode_operator.speaking import Speaker
from rhapsode_operator.tales import Tale
from support.reconcilers import IMAGES, KEY, Meter, become, cluster_with
from support.snapshots import RAN, SERVING, conditions, container

STAGES = (("fetching", 0.4), ("importing the engine", 0.05), ("loading weights", 0.45), ("warming up", 0.1))
"""What a load does, and which share of its time that takes."""
LOADS = {
    "phase": "Running", "podIP": "127.0.0.1", "conditions": conditions(ready=False),
    "initContainerStatuses": [container("relay", RAN, started=True)], "containerStatuses": [container("worker", RAN)],
}  # fmt: skip
GPU_BYTES = 80 * 2**30


def load(seconds: int) -> Iterator[list[events.StreamEvent]]:
    """Yield what a worker tells each second: percent and estimate, VRAM that grows, a sentence now and then."""
    yield [events.State(seq=0, phase="loading")]
    for stage_name, share in STAGES:
        length = round(seconds * share)
        for second in range(length):
            done = 100 * second / length
            told: list[events.StreamEvent] = [
                events.Load(seq=0, stage=stage_name, percent=done, eta_s=float(length - second))
            ]
            used = round(GPU_BYTES * (done / 110 if stage_name == "loading weights" else 0.01))
            told.append(events.Vram(seq=0, source="nvml", gpus=[_gpu(used)]))
            if second % 10 == 0:
                told.append(_sentence(f"{stage_name}: {done:.0f} %"))
            yield told
    yield [events.State(seq=0, phase="ready"), _sentence("Ready")]


def _gpu(used: int) -> Gpu:
    return Gpu(uuid="GPU-bench", name="NVIDIA H100 80GB HBM3", total_bytes=GPU_BYTES, used_bytes=used)


def _sentence(human: str) -> events.Narration:
    return events.Narration(seq=0, ts=timestamp(), actor="worker", action="load", human=human, level="info")


class Moments:
    """A queue of one key: when it is due."""

    def __init__(self) -> None:
        self.now, self.due = 1000.0, float("inf")

    def add(self, _key: Key) -> None:
        self.due = self.now

    def add_after(self, _key: Key, seconds: float) -> None:
        self.due = min(self.due, self.now + seconds)


class Deaf:
    """Telemetry whose tales somebody else tells."""

    def __init__(self) -> None:
        self.tales: dict[str, Tale] = {}

    def follow(self, *_: Any) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def narrate(self, *_: Any) -> bool:
        return True


class Simulation:
    """One resource, one pod, and a clock."""

    def __init__(self) -> None:
        self.cluster, self.line, self.meter, self.telemetry = cluster_with(), Moments(), Meter(), Deaf()
        poster = Poster(self.cluster, self.meter)
        ports = Ports(cluster=self.cluster, store=self.cluster, line=self.line, meter=self.meter, poster=poster)
        self.reconciler = Reconciler(ports, IMAGES, "bench", clock=lambda: self.line.now)
        self.reconciler.telemetry = self.telemetry  # type: ignore[assignment]
        self.reconciler._speaker = Speaker(self.telemetry, lambda: self.line.now)  # type: ignore[arg-type]  # noqa: SLF001 (they are deaf)

    async def run(self, seconds: int) -> Counter[str]:
        """Load, become ready, and stay so for a while; return the writes by manager."""
        await self._work(2)
        self._become(LOADS)
        await self._work(1)
        uid = self.cluster.pods(KEY)[0].uid
        tale = self.telemetry.tales[uid] = Tale(since=self.line.now)
        opening: events.StreamEvent = events.Worker(seq=0, phase="starting", running=0, queued=0)
        for told in itertools.chain([[opening]], load(seconds)):
            at_once = [tale.hear(event, self.line.now) for event in told]
            self.reconciler.moved(KEY, at_once=any(at_once))
            await self._work(1)
        self._become(SERVING)
        await self._work(60)
        return Counter(self.meter.written)

    def _become(self, status: dict[str, Any]) -> None:
        become(self.cluster, "w-0", status)
        self.line.add(KEY)

    async def _work(self, seconds: int) -> None:
        """Let seconds pass, in tenths."""
        for _ in range(10 * seconds):
            if self.line.due <= self.line.now:
                self.line.due = float("inf")
                again = await self.reconciler.reconcile(KEY)
                self.line.add_after(KEY, 600.0 if again is None else again)
            self.line.now += 0.1


async def simulated(seconds: int) -> Counter[str]:
    """Return the status writes of a load on a clock that we turn."""
    simulation = Simulation()
    simulation.line.add(KEY)
    return await simulation.run(seconds)


async def real(seconds: int) -> float:
    """Return the status writes of a load through the whole operator."""
    with stage() as scene, scene.nodes(vram_s=0) as nodes, scene.leader() as operator:
        async with scene.caller() as api, following(api, RESOURCES) as view:
            await api.create(LOADING)
            await view.until(lambda: LOADING in view.workers and nodes.streams() == 1, "its relay is listened to", 30)
            await _tell(nodes, seconds)
            await asyncio.sleep(1)
        return operator.total("rhapsode_status_writes_total")


async def _tell(nodes: Nodes, seconds: int) -> None:
    for told in load(seconds):
        nodes.say(f"{LOADING}-0", *msgspec.to_builtins(told))
        await asyncio.sleep(1)

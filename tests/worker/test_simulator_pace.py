"""The simulator keeps its pace when the machine stands still: nothing comes in a heap, and no load is over at once."""

import asyncio

import pytest

from rhapsode_contract import frames
from rhapsode_worker.engines.simulator import SimulatorEngine
from support import virtual_time
from support.engines import plan_of

STOOD_S = 60.0


class Clock:
    """The time of the loop, and what the machine stood still beside it."""

    stood = 0.0

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.stood

    def stand_still(self) -> None:
        self.stood += STOOD_S


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr("rhapsode_worker.engines.simulator.time", stopped)
    return stopped


def test_what_was_not_said_in_a_stall_is_not_said_in_a_heap_after_it(clock: Clock) -> None:
    async def speak() -> list[float]:
        loop = asyncio.get_running_loop()
        engine = SimulatorEngine()
        await engine.load(plan_of("Simulator", options={"load": [], "tokensPerSecond": 10}), lambda *_, **__: None)
        loop.call_later(2.05, clock.stand_still)
        said = engine.generate(frames.Generate(job_id="j", correlation_id="c", prompt="Sing", max_tokens=60))
        return [loop.time() async for step in said if isinstance(step, list)]

    times = virtual_time.run(speak())
    assert len(times) == 60
    assert times[-1] - times[0] > 5.5, "59 tokens of a tenth of a second, a few of them made up for"


def test_a_load_goes_on_after_a_stall_where_it_was(clock: Clock) -> None:
    async def load() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(1.1, clock.stand_still)
        began = loop.time()
        stages = [{"stage": "loading weights", "seconds": 8}]
        await SimulatorEngine().load(plan_of("Simulator", options={"load": stages}), lambda *_, **__: None)
        return loop.time() - began

    assert 7.5 < virtual_time.run(load()) <= 8

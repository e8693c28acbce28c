"""See from outside how far an engine is that cannot tell itself. Called by `supervising`, once for each process.

TensorRT-LLM is watched by the GPU memory that it takes and by what it prints, OpenVINO by how much of the weights
is in memory.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rhapsode_contract.frames import Vram
from rhapsode_worker.engine_process import EngineProcess
from rhapsode_worker.engines import LoadPlan
from rhapsode_worker.engines.tensorrt_llm_options import count_ranks
from rhapsode_worker.load_signs import Sign, Step, read_sign
from rhapsode_worker.output_lines import Line
from rhapsode_worker.taking_room import Room
from rhapsode_worker.telling_loads import LoadTeller
from rhapsode_worker.voice import Voice
from rhapsode_worker.watching_weights import watch_weights
from rhapsode_worker.weighing import checkpoint_bytes

LOOK_S = 0.25


class Reader(Protocol):
    """Understands what one engine prints."""

    def __call__(self, line: str) -> Sign | None: ...


class Devices(Protocol):
    """The GPUs: what they held when they were last asked."""

    @property
    def vram(self) -> Vram: ...

    async def refresh(self) -> None: ...


READERS: Mapping[str, Reader] = {"TensorRTLLM": read_sign}


class LoadWatch:
    """One load of one engine process."""

    def __init__(self, plan: LoadPlan, voice: Voice, devices: Devices) -> None:
        self._plan = plan
        self._voice = voice
        self._devices = devices
        self._reader = READERS.get(plan.engine)
        self._teller = LoadTeller(plan.engine, plan.model)
        self._room = Room(_checkpoint(plan), count_ranks(plan)) if self._reader else Room(None)

    async def begin(self) -> None:
        """See what the GPUs hold before the engine is there: only what comes on top of that is its own."""
        if self._reader is not None:
            await self._devices.refresh()
            self._room.look(self._devices.vram)

    def hear(self, lines: list[Line]) -> None:
        """Take what the engine printed."""
        if self._reader is None or self._voice.phase != "loading":
            return
        for line in lines:
            if sign := self._reader(line.text):
                self._take(sign)

    async def follow(self, engine: EngineProcess) -> None:
        """Watch until the load is over, or there is nothing more to see."""
        if self._reader is None:
            await watch_weights(engine, self._plan.path, self._plan.model, self._voice)
            return
        while self._teller.minds_room:
            await self._devices.refresh()
            if self._voice.phase == "loading" and (sign := self._room.look(self._devices.vram)):
                self._take(sign)
            await asyncio.sleep(LOOK_S)

    def _take(self, sign: Sign) -> None:
        if sign.step == Step.SKELETON and sign.bytes_total is not None:
            ranks = self._room.announce(sign.bytes_total)
            sign = Sign(step=sign.step, bytes_total=sign.bytes_total, facts={"gpus": ranks})
        for told in self._teller.take(sign):
            self._voice.tell(told)


def _checkpoint(plan: LoadPlan) -> int | None:
    """Return the size that the room grows towards before the engine tells one; random weights have none on disk."""
    if not plan.path or plan.options.get("loadFormat") == "dummy":
        return None
    return checkpoint_bytes(Path(plan.path))

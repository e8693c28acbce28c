"""The simulator with gates: a test holds a load at the end of a stage, or a text after its first token.

A stage of half a second, or an answer of two, is over before a machine that stalls has looked at it. `Gates` is the
test's side, for the environment of a stand-in kubelet; `gated/sitecustomize.py` puts `GatedEngine` in the place of
the simulator.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from rhapsode_contract import frames
from rhapsode_worker.engines import Narrate, Step
from rhapsode_worker.engines.simulator import SimulatorEngine

FOLDER = "RHAPSODE_TEST_GATES"
SPEECH = "speech"
TESTS = Path(__file__).parents[1]


class Gates:
    """What a test holds: stages of loads by name, and `SPEECH`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to meet the gates."""
        return {"PYTHONPATH": f"{TESTS / 'support/gated'}:{TESTS}", FOLDER: str(self._folder)}

    def hold(self, *names: str) -> None:
        for name in names:
            (self._folder / name).touch()

    def release(self, name: str) -> None:
        (self._folder / name).unlink()


class GatedEngine(SimulatorEngine):
    """The simulator, as far as the gates are open."""

    async def _pass(self, stage: str, seconds: float, narrate: Narrate) -> None:
        await super()._pass(stage, seconds, narrate)
        await _wait(stage, asyncio.Event())

    async def _speak(
        self, request: frames.Generate, prompt: str, aborted: asyncio.Event
    ) -> AsyncGenerator[Step, None]:
        async for step in super()._speak(request, prompt, aborted):
            yield step
            await _wait(SPEECH, aborted)


async def _wait(name: str, aborted: asyncio.Event) -> None:
    held = Path(os.environ[FOLDER]) / name
    while held.exists() and not aborted.is_set():
        await asyncio.sleep(0.01)

"""An engine that prints what a script says while it loads, for tests of loads and ends; it serves nothing.

The script lies beside the checkpoint: texts are printed as they are, `{"wait": NAME}` waits until the test makes
that file, and `{"seconds": S}` passes time. `{"hold": NAME}` makes a file and then holds the interpreter, as C code
does. `{"spawn": NAME}` starts a process that prints nowhere and lives on, and writes its number into the file; with
`"apart": true` it leaves the engine's group. `{"refuse": WHY}` fails the load, and `{"hang": true}` lets the closing
of the engine hang. A close makes the file `closed`.
"""

import asyncio
import ctypes
import json
import os
import subprocess
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from rhapsode_contract import frames
from rhapsode_worker.engines import EngineStats, LoadPlan, Narrate, Step
from rhapsode_worker.errors import LoadError

SCRIPT = "script.json"
WARMUP_S = 0.3
"""A first token takes time. What is printed before comes another way than what is told: a test that wants it all to be
read by then lets the script end with a wait."""


class ScriptedEngine:
    """Loads as it is told to."""

    def __init__(self) -> None:
        self._folder = Path()
        self._hangs = False

    async def load(self, plan: LoadPlan, narrate: Narrate) -> frames.Caps:
        self._folder = Path(plan.path)
        for act in json.loads((self._folder / SCRIPT).read_text()):
            await self._do(act, self._folder)
        await asyncio.sleep(WARMUP_S)
        narrate("warmup", ms=1000 * WARMUP_S)
        return frames.Caps(slots=plan.max_sequences, context_tokens=plan.max_context_tokens)

    async def _do(self, act: str | dict[str, Any], folder: Path) -> None:
        if isinstance(act, str):
            rest = act.encode(errors="surrogateescape")
            while rest:
                rest = rest[os.write(1, rest) :]
            return
        if "hold" in act:
            (folder / act["hold"]).write_text(str(os.getpid()))
            ctypes.PyDLL(None).sleep(600)  # a PyDLL keeps the interpreter to itself
        if "spawn" in act:
            (folder / act["spawn"]).write_text(str(_start_another(act.get("apart", False))))
        if "refuse" in act:
            raise LoadError("ModelLoadFailed", act["refuse"], "Do something.")
        self._hangs |= act.get("hang", False)
        await asyncio.sleep(act.get("seconds", 0))
        while "wait" in act and not (folder / act["wait"]).exists():
            await asyncio.sleep(0.01)

    async def generate(self, request: frames.Generate) -> AsyncGenerator[Step, None]:
        raise NotImplementedError
        yield

    def abort(self, job_id: str) -> None:
        return

    def stats(self) -> EngineStats:
        return EngineStats()

    async def close(self) -> None:
        if self._hangs:
            await asyncio.to_thread(time.sleep, 600)
        (self._folder / "closed").write_text("closed")


def _start_another(apart: bool) -> int:
    return subprocess.Popen(["sleep", "600"], start_new_session=apart).pid

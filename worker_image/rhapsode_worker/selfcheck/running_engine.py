"""One engine process of a check: it loads, answers requests, and ends. Called by `checking` and `asking`.

What a supervisor is to a worker this is to a check, for one process only: no relay, no restart, no history.
"""

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rhapsode_contract import frames
from rhapsode_worker.engine_process import Ending, EngineProcess
from rhapsode_worker.engines import CLOSE_S, LoadPlan
from rhapsode_worker.giving_up import explain_endings
from rhapsode_worker.selfcheck.findings import Finding, Trouble, failure, not_checked
from rhapsode_worker.selfcheck.telling import SHOWN_LINES
from rhapsode_worker.voice import Voice
from rhapsode_worker.watching_devices import DeviceWatch
from rhapsode_worker.watching_loads import LoadWatch

TICK_S = 0.5


class Asked:
    """One request: every frame about it, with the moment when it came."""

    def __init__(self, job_id: str, max_tokens: int) -> None:
        self.job_id = job_id
        self.max_tokens = max_tokens
        self.heard: list[tuple[float, frames.WorkerFrame]] = []
        self.spoke = asyncio.Event()
        self.ended: asyncio.Future[frames.Finish | frames.Error] = asyncio.get_running_loop().create_future()

    def hear(self, frame: frames.WorkerFrame) -> None:
        """Take one frame."""
        self.heard.append((time.monotonic(), frame))
        if isinstance(frame, frames.Token):
            self.spoke.set()
        elif isinstance(frame, frames.Finish | frames.Error):
            self.spoke.set()
            if not self.ended.done():
                self.ended.set_result(frame)


class EngineRun:
    """One engine process."""

    def __init__(self, plan: LoadPlan, voice: Voice, devices: DeviceWatch, memory_events: Path | None) -> None:
        self.caps = frames.Caps()
        self._voice = voice
        self._devices = devices
        self._seen = LoadWatch(plan, voice, devices)
        self._process = EngineProcess(plan, self._hear, self._seen.hear, memory_events)
        self._refused: frames.Narration | None = None
        self._decided = asyncio.Event()
        self._asked: dict[str, Asked] = {}
        self._life: asyncio.Task[Ending] | None = None
        self._end_told = False

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        return self._life is None or self._life.done()

    def missed(self) -> Finding:
        """Return what a check finds that the engine is not there for: why it ended, if none has told that yet."""
        if self._life is None or self._end_told:
            return not_checked("the engine is gone")
        return self._explain(self._life.result())

    async def load(self) -> frames.Caps:
        """Start the process and load. Raises Trouble."""
        self._voice.begin_load({})
        await self._seen.begin()
        self._life = asyncio.create_task(self._process.run())
        beside = [asyncio.create_task(one) for one in (self._seen.follow(self._process), self._do_chores())]
        try:
            await self._unless_it_ends(self._decided.wait())
        finally:
            for task in beside:
                task.cancel()
        if self._refused is not None:
            raise Trouble(self._explain(await self._life))
        self._voice.end_load()
        self._voice.enter("ready", caps=self.caps)
        return self.caps

    def ask(self, *requests: frames.Generate) -> list[Asked]:
        """Send requests, in one piece: what holds us up comes between no two of them."""
        asked = [Asked(request.job_id, request.max_tokens) for request in requests]
        self._asked |= {one.job_id: one for one in asked}
        self._process.send(*requests)
        return asked

    def cancel(self, asked: Asked) -> None:
        self._process.send(frames.Cancel(job_id=asked.job_id, reason="selfcheck"))

    async def first_word(self, asked: Asked) -> None:
        """Wait until a request says something, or ends."""
        await self._unless_it_ends(asked.spoke.wait())

    async def answer(self, asked: Asked) -> frames.Finish:
        """Wait for the end of a request. Raises Trouble."""
        ended: list[frames.Finish | frames.Error] = []

        async def wait() -> None:
            ended.append(await asked.ended)

        await self._unless_it_ends(wait())
        if isinstance(ended[0], frames.Error):
            raise Trouble(
                failure(ended[0].message, "The message has the engine's words.", facts={"code": ended[0].code})
            )
        return ended[0]

    async def end(self) -> Finding:
        """Let the engine close, as a worker that stops does; return how that went."""
        assert self._life is not None
        began = time.monotonic()
        await self._process.stop(asyncio.Event())
        seconds = time.monotonic() - began
        ending = await self._life
        lines = ending.lines[-SHOWN_LINES:]
        if ending.status == 0:
            return Finding(measured=f"it closed and ended within {seconds:.1f} s")
        if seconds >= CLOSE_S:  # it was killed, or was sooner to see itself how late it is
            return failure(f"it did not close within {CLOSE_S:g} s and was ended", "Tell us in an issue.", lines)
        remedy = "Look at its last lines; a worker that stops would leave like this, too."
        return Finding(outcome="warning", measured=f"it ended by {ending.how}", remedy=remedy, lines=lines)

    async def kill(self) -> None:
        """End the process now, if there is one."""
        if self._life is None:
            return
        self._process.kill()
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)

    async def _unless_it_ends(self, waiting: Coroutine[Any, Any, Any]) -> None:
        """Wait for something that a living engine brings about. Raises Trouble if it refuses to load, or ends."""
        assert self._life is not None
        task = asyncio.create_task(waiting)
        try:
            await asyncio.wait({task, self._life}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return
            raise Trouble(self._explain(self._life.result()))
        finally:
            task.cancel()

    def _explain(self, ending: Ending) -> Finding:
        """Return why the engine is gone: what it said itself, else what its end and its last lines tell."""
        lines, self._end_told = ending.lines[-SHOWN_LINES:], True
        if self._refused is not None:
            told = self._refused.fields
            return failure(str(told["why"]), str(told["remedy"]), lines, facts={"reason": told["reason"]})
        reason, _, remedy = explain_endings(ending, 1)
        remedy = "Look at its last lines." if reason == "EngineCrash" else remedy
        return failure(f"the engine ended by {ending.how}", remedy, lines, facts={"reason": reason})

    def _hear(self, frame: frames.WorkerFrame) -> None:
        job_id = getattr(frame, "job_id", None)
        if job_id is not None:
            if asked := self._asked.get(job_id):
                asked.hear(frame)
        elif isinstance(frame, frames.Narration):
            if frame.action == "load_failed":
                self._refused = frame
            self._voice.tell(frame)
        elif isinstance(frame, frames.State) and frame.phase in ("ready", "failed"):
            self.caps = frame.caps or self.caps
            self._decided.set()

    async def _do_chores(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._voice.break_silence()
            self._devices.mind()

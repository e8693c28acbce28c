"""An engine without a model: seeded text, scripted stages, rates and faults. For tests, demos and client authors."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Iterator

from rhapsode_contract import frames
from rhapsode_worker.composing import ByteDecoder, Composer, Piece
from rhapsode_worker.engines import EngineStats, Finished, LoadPlan, Narrate, Prefilled, Step
from rhapsode_worker.engines.simulating import Fault, Script, made_up_logprob, prompt_of, read_script, words_of
from rhapsode_worker.engines.simulating_tools import say_in_turn
from rhapsode_worker.errors import LoadError, RequestError, WorkerError

_BATCH = 64
"""Tokens between two looks at the event loop, when there is no rate to keep."""
_PROGRESS_S = 0.25
_CATCH_UP_S = 0.25
"""How late a token may be for the next ones to make up for it. Who stood still longer goes on at the scripted rate,
as a model would: nobody wants a stall of the machine to bring a heap of tokens, or to end a load."""
_KEPT_PROMPTS = 32


class SimulatorEngine:
    """See `docs/engines.md` for its options."""

    def __init__(self) -> None:
        self._script = Script()
        self._plan = LoadPlan(engine="Simulator", model="")
        self._slots = asyncio.Semaphore(1)
        self._aborted: dict[str, asyncio.Event] = {}
        self._stats = EngineStats()
        self._slowness = 1.0
        self._prompts: list[list[str]] = []

    async def load(self, plan: LoadPlan, narrate: Narrate) -> frames.Caps:
        self._plan = plan
        self._script = read_script(plan.options)
        self._slots = asyncio.Semaphore(plan.max_sequences)
        for stage in self._script.load:
            narrate("load_stage", stage=stage.stage, progress=0.0, fraction=0.0)
            for fault in self._script.faults_at(stage.stage, plan.attempt):
                await self._suffer(fault, asyncio.Event(), LoadError)
            await self._pass(stage.stage, stage.seconds * self._slowness, narrate)
        return frames.Caps(
            slots=plan.max_sequences,
            context_tokens=plan.max_context_tokens,
            tools=self._script.tools,
            logprobs=True,
        )

    async def generate(self, request: frames.Generate) -> AsyncGenerator[Step, None]:
        prompt = prompt_of(request)
        prompt_tokens = max(1, len(prompt.split()))
        if prompt_tokens >= self._plan.max_context_tokens:
            raise RequestError(
                "context_length_exceeded",
                f"the prompt is {prompt_tokens} tokens, the context {self._plan.max_context_tokens}",
                "Shorten it.",
                param="prompt" if request.messages is None else "messages",
            )
        aborted = self._aborted.setdefault(request.job_id, asyncio.Event())
        try:
            if not await self._enter(aborted):
                yield Finished("cancelled", 0)
                return
            self._stats.active += 1
            try:
                yield Prefilled(prompt_tokens, self._recall(prompt))
                async for step in self._speak(request, prompt, aborted):
                    yield step
            finally:
                self._stats.active -= 1
                self._slots.release()
        finally:
            self._aborted.pop(request.job_id, None)

    def abort(self, job_id: str) -> None:
        if event := self._aborted.get(job_id):
            event.set()

    def stats(self) -> EngineStats:
        return self._stats

    async def close(self) -> None:
        for event in self._aborted.values():
            event.set()

    async def _enter(self, aborted: asyncio.Event) -> bool:
        """Wait for a slot; return False if the request is aborted before."""
        self._stats.queued += 1
        acquiring = asyncio.ensure_future(self._slots.acquire())
        giving_up = asyncio.ensure_future(aborted.wait())
        try:
            await asyncio.wait({acquiring, giving_up}, return_when=asyncio.FIRST_COMPLETED)
            return acquiring.done()
        finally:
            self._stats.queued -= 1
            giving_up.cancel()
            acquiring.cancel()

    # Speaking

    async def _speak(
        self, request: frames.Generate, prompt: str, aborted: asyncio.Event
    ) -> AsyncGenerator[Step, None]:
        """Yield the text at the scripted rate, or in batches as fast as the loop takes them."""
        seed = self._script.seed if request.seed is None else request.seed
        composer = Composer(request.stop)
        said = say_in_turn(request, seed, prompt) if self._script.tools else words_of(seed, prompt)
        words = self._texts(said)
        rate = self._script.tokens_per_second
        started, done, ended = time.monotonic(), 0, False
        faulty = any(fault.after_tokens is not None for fault in self._script.faults)
        while done < request.max_tokens and not (ended or composer.stopped or aborted.is_set()):
            if faulty:
                for fault in self._script.faults_after(done, self._plan.attempt):
                    await self._suffer(fault, aborted, RequestError)
            if rate:
                due = started + (done + 1) * self._slowness / rate
                await _sleep_until(due, aborted)
                started += max(0.0, time.monotonic() - due - _CATCH_UP_S)
                batch = 1
            else:
                await asyncio.sleep(0)
                batch = 1 if faulty else min(_BATCH, request.max_tokens - done)
            if aborted.is_set():
                break
            pieces, taken, ended = _compose(composer, words, batch, request.logprobs)
            done += taken
            if pieces:
                yield pieces
        if not composer.stopped and (rest := composer.flush()):
            yield rest
        reason: frames.StopReason = "stop" if ended or composer.stopped else "length"
        yield Finished("cancelled" if aborted.is_set() else reason, done)

    def _texts(self, words: Iterator[str]) -> Iterator[str]:
        """Yield the text of each token; with `splitUtf8` a token ends in the middle of a character."""
        if not self._script.split_utf8:
            yield from words
        decoder = ByteDecoder()
        for word in words:
            raw = word.encode()
            middle = len(raw) // 2
            for half in (raw[:middle], raw[middle:]) if len(raw) > len(word) else (raw,):
                yield decoder.push(half)

    def _recall(self, prompt: str) -> int | None:
        """Return how many words of the prompt began an earlier one; None without a prefix cache."""
        if not self._script.prefix_cache:
            return None
        words = prompt.split()
        known = max((_common(words, old) for old in self._prompts), default=0)
        self._prompts = [*self._prompts[1 - _KEPT_PROMPTS :], words]
        return known

    # Suffering

    async def _pass(self, stage: str, seconds: float, narrate: Narrate) -> None:
        """Spend the time of a stage, telling how far it is."""
        passed = 0.0
        while passed < seconds:
            began = time.monotonic()
            await asyncio.sleep(min(_PROGRESS_S, seconds - passed))
            passed += min(time.monotonic() - began, _PROGRESS_S + _CATCH_UP_S)
            fraction = min(1.0, passed / seconds)
            narrate("load_stage", stage=stage, progress=fraction, fraction=fraction)

    async def _suffer(self, fault: Fault, aborted: asyncio.Event, error: type[WorkerError]) -> None:
        match fault.kind:
            case "stall":
                until = None if fault.seconds is None else time.monotonic() + fault.seconds
                await _sleep_until(until, aborted)
            case "slow":
                self._slowness = fault.factor
            case "garbage":
                sys.stdout.write('{"type":"token"\nnot a frame\x1b[31m\r50 %\r100 %\n')
                sys.stdout.flush()
                os.write(_control_descriptor(), b'garbage\n{"type":"nonsense"}\n{"type":"token","job_id":5}\n')
            case "oom":
                raise error(
                    "CUDAOutOfMemory" if error is LoadError else "cuda_out_of_memory",
                    f"CUDA out of memory: {fault.asked_gib:g} GiB asked, {fault.free_gib:g} GiB free (simulated)",
                    "Lower kvCacheFraction or maxSequences.",
                )
            case "exit":
                sys.stderr.write(f"simulated crash at {fault.at or f'token {fault.after_tokens}'}\n")
                sys.stderr.flush()
                if fault.signal is not None:
                    os.kill(os.getpid(), fault.signal)
                os._exit(fault.code)


def _compose(composer: Composer, words: Iterator[str], batch: int, probable: bool) -> tuple[list[Piece], int, bool]:
    """Return what may be said of the next words, how many were taken, and whether there are no more."""
    pieces: list[Piece] = []
    taken = 0
    while taken < batch and not composer.stopped:
        if (word := next(words, None)) is None:
            return pieces, taken, True
        taken += 1
        if piece := composer.push(word, 1, (made_up_logprob(word),) if probable else ()):
            pieces.append(piece)
    return pieces, taken, False


async def _sleep_until(due: float | None, aborted: asyncio.Event) -> None:
    """Sleep until a moment, or forever; an abort wakes."""
    timeout = None if due is None else due - time.monotonic()
    if timeout is not None and timeout <= 0:
        await asyncio.sleep(0)
        return
    try:
        await asyncio.wait_for(aborted.wait(), timeout)
    except TimeoutError:
        return


def _control_descriptor() -> int:
    return int(os.environ.get("RHAPSODE_CONTROL_FD", "2"))


def _common(words: list[str], others: list[str]) -> int:
    """Return how many words both lists begin with."""
    return next(
        (at for at, pair in enumerate(zip(words, others, strict=False)) if pair[0] != pair[1]),
        min(len(words), len(others)),
    )

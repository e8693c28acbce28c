"""What computes: a thread that gives every running request a token at each step. Called by `llmapi`."""

import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..obeying import obedient
from ..tokenizing import END, FIRST_BYTE, FIRST_WORD, PAD, WORDS
from .result import Logprob, RequestOutput, RequestPerfMetrics, Response, TimingMetrics
from .utils import RequestError

STEP_S = 0.002
BLOCK = 32


@dataclass
class Sequence:
    """A request inside the engine."""

    output: RequestOutput
    streaming: bool
    times: TimingMetrics
    tokens: Iterator[int]
    left: int
    cached: int = 0
    made: int = 0
    endless: bool = False
    held: tuple[int, ...] = ()


class Worker(threading.Thread):
    """Runs `slots` requests at once, the others in order of arrival."""

    def __init__(self, slots: int, reuse: bool, metrics: bool) -> None:
        super().__init__(daemon=True)
        self._slots, self._reuse, self._metrics = slots, reuse, metrics
        self._waiting: deque[Sequence] = deque()
        self._active: list[Sequence] = []
        self._cancelled: set[int] = set()
        self._prompts: deque[list[int]] = deque(maxlen=32)
        self._lock = threading.Condition()
        self.steps: deque[dict[str, Any]] = deque(maxlen=1000)
        self.down: Exception | None = None
        self.start()

    def submit(self, output: RequestOutput, streaming: bool) -> None:
        times = TimingMetrics(arrival_time=timedelta(seconds=time.monotonic()))
        sequence = Sequence(output, streaming, times, _answer(output), output.params.max_tokens)
        with self._lock:
            self._waiting.append(sequence)
            self._lock.notify()

    def cancel(self, request_id: int) -> None:
        with self._lock:
            self._cancelled.add(request_id)
            self._lock.notify()

    @property
    def running(self) -> int:
        return len(self._active)

    def end(self, why: Exception) -> None:
        """Go down: whoever waits hears why."""
        with self._lock:
            if self.down is None:
                self.down = why
                for sequence in (*self._active, *self._waiting):
                    sequence.output.put(why)
                self._active, self._waiting = [], deque()
            self._lock.notify()

    def run(self) -> None:
        while self.down is None:
            with self._lock:
                self._lock.wait_for(lambda: self._active or self._waiting or self.down, 1.0)
                self._cancel()
                self._admit()
                for sequence in list(self._active):
                    self._step(sequence)
                self._note()
            time.sleep(STEP_S)

    def _cancel(self) -> None:
        for sequence in [*self._active, *self._waiting]:
            if sequence.output.request_id in self._cancelled:
                self._finish(sequence, "cancelled", list(sequence.held))
        self._cancelled.clear()

    def _admit(self) -> None:
        while self._waiting and len(self._active) < self._slots:
            sequence = self._waiting.popleft()
            self._active.append(sequence)
            sequence.times.first_scheduled_time = timedelta(seconds=time.monotonic())
            prompt = bytes(token - FIRST_BYTE for token in sequence.output.prompt_token_ids if token >= FIRST_BYTE)
            if b"[[refuse]]" in prompt:
                self._active.remove(sequence)
                sequence.output.put(RequestError("the engine does not like it"))
            elif b"[[fatal]]" in prompt:
                self.end(RuntimeError("CUDA error: an illegal memory access was encountered"))
            elif b"[[vanish]]" in prompt:
                self.down = RuntimeError("nobody hears this")
            else:
                sequence.endless = b"[[endless]]" in prompt
                sequence.cached = self._recall(sequence.output.prompt_token_ids)

    def _recall(self, prompt: list[int]) -> int:
        common = max((_common(prompt, old) for old in self._prompts), default=0) if self._reuse else 0
        self._prompts.append(prompt)
        return min(common, len(prompt) - 1) // BLOCK * BLOCK

    def _step(self, sequence: Sequence) -> None:
        if sequence.endless and sequence.left == 1:
            return
        token = next(sequence.tokens)
        sequence.made += 1
        sequence.left -= 1
        moment = timedelta(seconds=time.monotonic())
        if sequence.made == 1:
            sequence.times.first_token_time = moment
        sequence.times.last_token_time = moment
        if token == END or not sequence.left:
            self._finish(sequence, "stop" if token == END else "length", [*sequence.held, token])
        elif sequence.streaming:
            sequence.output.put(Response([token], None, sequence.cached, None, _logprobs(sequence, [token])))
        else:
            sequence.held += (token,)

    def _finish(self, sequence: Sequence, reason: str, tokens: list[int]) -> None:
        if sequence in self._active:
            self._active.remove(sequence)
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        wanted = self._metrics and sequence.output.params.return_perf_metrics
        metrics = RequestPerfMetrics(sequence.times) if wanted else None
        sequence.output.put(Response(tokens, reason, sequence.cached, metrics, _logprobs(sequence, tokens)))

    def _note(self) -> None:
        blocks = sum((len(one.output.prompt_token_ids) + one.made) // BLOCK + 1 for one in self._active)
        self.steps.append({
            "iter": len(self.steps), "numActiveRequests": len(self._active), "numQueuedRequests": len(self._waiting),
            "kvCacheStats": {"maxNumBlocks": 1024, "usedNumBlocks": blocks, "freeNumBlocks": 1024 - blocks},
        })  # fmt: skip


def _answer(output: RequestOutput) -> Iterator[int]:
    guided = output.params.guided_decoding
    if guided is not None:
        yield from (FIRST_BYTE + byte for byte in obedient(guided).encode())
    else:
        seed = None if output.params.greedy else output.params.seed
        rng = random.Random(f"{seed} {output.prompt_token_ids}")
        yield from (FIRST_WORD + rng.randrange(len(WORDS)) for _ in range(100_000))
    while True:
        yield END


def _logprobs(sequence: Sequence, tokens: list[int]) -> list[dict[int, Logprob]] | None:
    """Return some for the chosen tokens, and for a better one of each that is never chosen."""
    if not sequence.output.params.logprobs:
        return None
    return [{token: Logprob(-(token % 64) / 16 - 0.25, 2), PAD: Logprob(-0.125, 1)} for token in tokens]


def _common(ids: list[int], others: list[int]) -> int:
    for at, (one, other) in enumerate(zip(ids, others, strict=False)):
        if one != other:
            return at
    return min(len(ids), len(others))

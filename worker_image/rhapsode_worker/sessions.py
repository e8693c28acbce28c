"""Run one request on an engine and tell it as frames. Called by `child`. The same for every engine.

The order of the frames is the order of the story: what the engine did, then what it said. A narration about
n tokens stands behind the n-th token.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from rhapsode_contract import frames
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.frames import TOKEN_SEPARATOR
from rhapsode_worker.composing import Piece
from rhapsode_worker.engines import Engine, Finished, Measured, Prefilled
from rhapsode_worker.errors import WorkerError

TOKENS_EVERY = 20
"""Tokens between two narrations of progress …"""
TOKENS_EVERY_S = 0.25
"""… and seconds, so that a fast engine does not talk more than it sings."""

Send = Callable[[frames.WorkerFrame], None]


class Session:
    """One request on its way through the engine."""

    def __init__(
        self, engine: Engine, request: frames.Generate, send: Send, drained: Callable[[], Awaitable[None]]
    ) -> None:
        self._engine = engine
        self._request = request
        self._send = send
        self._wait_drained = drained
        self._began = time.monotonic()
        self._first_at: float | None = None
        self._tokens = 0
        self._told_tokens = 0
        self._told_at = self._began
        self._prompt_tokens = 0
        self._measured = Measured()
        self._aborted = False

    def abort(self) -> None:
        """Stop the request, also if it has not begun."""
        self._aborted = True
        self._engine.abort(self._request.job_id)

    async def run(self) -> None:
        """Run the request to its last frame: `finish` or `error`, exactly one."""
        if self._aborted:
            self._finished(Finished("cancelled", 0))
            return
        try:
            async with aclosing(self._engine.generate(self._request)) as steps:
                async for step in steps:
                    if isinstance(step, Prefilled):
                        self._prefilled(step)
                    elif isinstance(step, Finished):
                        self._finished(step)
                    elif isinstance(step, Measured):
                        self._measured = step
                    else:
                        self._speak(step if isinstance(step, list) else [step])
                    await self._wait_drained()
        except WorkerError as exc:
            self._fail(exc)

    def _prefilled(self, step: Prefilled) -> None:
        request = self._request
        self._prompt_tokens = step.prompt_tokens
        self._tell("tokenized", tokens=step.prompt_tokens)
        if step.cached_tokens:
            self._tell("prefix_reused", cached=step.cached_tokens, tokens=step.prompt_tokens)
        prefill = frames.Prefill(job_id=request.job_id, prompt_tokens=step.prompt_tokens)
        if step.cached_tokens is not None:
            prefill.cached_tokens = step.cached_tokens
        self._send(prefill)
        self._tell("inference_start", max_tokens=request.max_tokens, temperature=request.temperature)

    def _speak(self, pieces: list[Piece]) -> None:
        now = time.monotonic()
        if self._first_at is None:
            self._first_at = self._told_at = now
            self._tell("first_token", ms=(now - self._began) * 1000)
        for frame in _token_frames(self._request.job_id, self._tokens, pieces):
            self._send(frame)
        self._tokens += sum(piece.tokens for piece in pieces)
        if self._tokens - self._told_tokens >= TOKENS_EVERY and now - self._told_at >= TOKENS_EVERY_S:
            self._told_tokens, self._told_at = self._tokens, now
            self._tell("tokens", tokens=self._tokens, rate=self._rate(now))

    def _finished(self, step: Finished) -> None:
        now = time.monotonic()
        first_at = self._first_at or now
        decode_ms = (now - first_at) * 1000
        if step.reason != "cancelled":
            self._tell(
                "inference_complete",
                tokens=step.tokens,
                ms=decode_ms,
                rate=self._rate(now),
                reason=step.reason,
                queue_ms=self._measured.queue_ms,
                engine_first_ms=self._measured.first_token_ms,
                cached=self._measured.cached_tokens,
            )
        self._send(
            frames.Finish(
                job_id=self._request.job_id,
                stop_reason=step.reason,
                tokens_out=step.tokens,
                prompt_tokens=self._prompt_tokens,
                ttft_ms=round((first_at - self._began) * 1000, 3),
                decode_time_ms=round(decode_ms, 3),
            )
        )

    def _fail(self, exc: WorkerError) -> None:
        self._tell("failed", why=exc.why, remedy=exc.remedy)
        param = getattr(exc, "param", None)
        self._send(
            frames.Error(
                job_id=self._request.job_id,
                code=exc.reason,
                message=str(exc),
                param=param,
                retryable=param is None,
            )
        )

    def _tell(self, action: str, **fields: object) -> None:
        self._send(narrate(action, fields, job_id=self._request.job_id))

    def _rate(self, now: float) -> float | None:
        seconds = now - (self._first_at or now)
        return (self._tokens - 1) / seconds if seconds > 0 and self._tokens > 1 else None


def _token_frames(job_id: str, i: int, pieces: list[Piece]) -> list[frames.Token]:
    """Return the frames of some texts: one for all if each is one token and no more, else one each."""
    plain = all(piece.tokens == 1 and not piece.logprobs and TOKEN_SEPARATOR not in piece.text for piece in pieces)
    if plain and len(pieces) > 1:
        return [frames.Token(job_id=job_id, i=i, ts=TOKEN_SEPARATOR.join(piece.text for piece in pieces))]
    told = []
    for piece in pieces:
        told.append(frames.Token(job_id=job_id, i=i, t=piece.text, count=piece.tokens, lp=piece.logprobs))
        i += piece.tokens
    return told

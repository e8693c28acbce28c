"""One turn from its context to its writes: an asyncio task that waits, and leaves every decision to pure parts.

Called by `turns`. The phases follow one another, each with its own time and all within the turn's. Whatever ends the
job (a cancel, a lost worker, the relay's own end) ends this task, and nothing is called after that.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rhapsode_contract import frames
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.requests import ChatMessage
from rhapsode_contract.results import Change, Write
from rhapsode_contract.turns import TurnRequest
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.errors import BadRequest, Unavailable
from rhapsode_relay.registry import new_job_id
from rhapsode_relay.turns import slots
from rhapsode_relay.turns.asking import build_command
from rhapsode_relay.turns.contracts import Contract
from rhapsode_relay.turns.failing import TurnFailed
from rhapsode_relay.turns.fetching import Question, fetch_all
from rhapsode_relay.turns.judging import judge
from rhapsode_relay.turns.reaching import Outside
from rhapsode_relay.turns.rendering import RenderError
from rhapsode_relay.turns.turn_jobs import IntentsJob, TurnJob
from rhapsode_relay.turns.writing import Letter, Writer

_logger = logging.getLogger("rhapsode.relay")

_SOON_JUDGED = 4096
"""Characters of intents that are judged in a few milliseconds; a quarter of a megabyte would hold up every token."""


class TurnRun:
    """One turn that is under way."""

    def __init__(
        self, house: Conductor, outside: Outside, secrets: Path | None, job: TurnJob, contract: Contract,
        wanted: TurnRequest,
    ) -> None:  # fmt: skip
        self.job = job
        self.needs_worker = True
        """Whether there is still something for the worker to do."""
        self._house = house
        self._outside = outside
        self._secrets = secrets
        self._contract = contract
        self._wanted = wanted
        self._limits = contract.outcome.limits
        self._context: dict[str, Any] = {}
        self._times: dict[str, float] = {}
        self._intents: IntentsJob | None = None
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        job.on_step = self._step

    def begin(self) -> asyncio.Task[None]:
        self._task = asyncio.create_task(self._run())
        return self._task

    def _step(self) -> None:
        self._moved.set()
        if self.job.over and self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._go()
        except TurnFailed as exc:
            self._fail(exc)
        except Exception as exc:  # its words may hold what a client or the model said
            _logger.error("a turn failed: %s at %s", type(exc).__name__, _place_of(exc))  # noqa: TRY400
            self._fail(TurnFailed("internal_error", "the relay failed; its log says where"))
        finally:
            self._let_go()

    async def _go(self) -> None:
        await self._fetch()
        asked = self._render(lambda: self._contract.prompts.narrative(self._wanted.inputs, self._context))
        await self._narrate(asked)
        finished, text = await self._ask_intents(asked)
        outcome, changes = await self._judge(text)
        writes = await self._write(outcome)
        self._part()
        self.job.complete(outcome, changes, writes, finished, self._times)
        self._house.count_end(self.job)

    # Phases

    async def _fetch(self) -> None:
        declared = self._contract.outcome.context
        self._context = {source.name: [] for source in declared}
        wanted = {} if self._wanted.dry_run else self._wanted.wanted()
        began = time.monotonic()
        questions = [Question(one, wanted[one.name], self._headers()) for one in declared if one.name in wanted]
        fetched = await fetch_all(self._outside, self._secrets, questions, self._left(self._limits.context_seconds))
        for source in declared:
            found = fetched.get(source.name, [])
            if isinstance(found, list):
                self._context[source.name] = found
                continue
            if source.required:
                raise TurnFailed("context_required", f"context source {source.name}: {found}", retryable=True)
            self._house.log(self.job.say("context_missing", source=source.name, why=found), self.job)
        self._note("context_ms", began)

    async def _narrate(self, asked: list[ChatMessage]) -> None:
        job = self.job
        command = build_command(job, self._wanted, asked)
        try:
            slots.enqueue(self._house, job, command)
        except Unavailable as exc:
            raise TurnFailed(exc.code, exc.message, retryable=True) from None
        async with self._within(self._limits.turn_seconds, "the wait for the worker"):
            await self._until(lambda: job.started_at is not None)
        self._check_engine()  # which was perhaps still loading when the turn was accepted
        async with self._within(self._limits.narrative_seconds, "the narrative"):
            await self._until(lambda: job.narrated is not None)
        self._times["stream_ms"] = round((job.narrated_at - (job.first_token_at or job.narrated_at)) * 1000, 3)

    async def _ask_intents(self, asked: list[ChatMessage]) -> tuple[frames.Finish, str]:
        narrative, prompts = self.job.journal.text(), self._contract.prompts
        if len(narrative.encode()) > self._limits.narrative_bytes:
            raise TurnFailed(*self.job.too_long())
        again = self._render(lambda: prompts.intents(asked, narrative, self._wanted.inputs, self._context))
        began = time.monotonic()
        intents = self._intents = self._second_job()
        command = build_command(intents, self._wanted, again, self._contract.intents_schema)
        if not slots.pass_on(self._house, self.job, intents, command):
            raise TurnFailed("worker_lost", "the worker is gone", retryable=True)
        async with self._within(self._limits.intents_seconds, "the intents"):
            await self._until(lambda: intents.over)
        self._note("intents_ms", began)
        self.needs_worker = False
        if intents.finished is None:
            error = intents.error
            assert error is not None
            why = f"the intents: {error.message}"
            raise TurnFailed(error.code, why, retryable=intents.retryable, logged="the intents came to no end")
        self._intents = None
        self._house.jobs.forget_hidden(intents)  # its slot is free; its tokens take more than the outcome will
        return intents.finished, intents.journal.text()

    async def _judge(self, text: str) -> tuple[dict[str, Any], list[Change]]:
        began, job = time.monotonic(), self.job
        facts = self._contract, job.journal.text(), text
        verdict = judge(*facts) if len(text) <= _SOON_JUDGED else await asyncio.to_thread(judge, *facts)
        self._note("validate_ms", began)
        job.is_valid = not verdict.problems
        job.on_phase(job, "parse_complete")
        if verdict.problems:
            self._house.counts.turns_invalid += 1
            raise TurnFailed("outcome_invalid", "; ".join(verdict.problems))
        job.give(frames.Data(action="outcome", payload=verdict.outcome))
        return verdict.outcome, verdict.changes

    async def _write(self, outcome: dict[str, Any]) -> list[Write]:
        job, wanted, began = self.job, self._wanted, time.monotonic()
        job.may_cancel = False
        job.on_phase(job, "writes_start")
        letter = Letter(
            outcome, wanted.inputs, wanted.policy, job.contract, job.terms.idempotency_key or job.id,
            self._headers(), wanted.dry_run,
        )  # fmt: skip
        writes = []
        left_s = self._left(self._limits.write_seconds)
        writer = Writer(self._outside, self._secrets)
        async for sink, write in writer.write(letter, self._contract.outcome.sinks, left_s):
            writes.append(write)
            self._tell(write)
            if sink.required and write.status == "failed":
                raise TurnFailed("sink_required_failed", f"sink {sink.name}: {write.reason}", retryable=True)
        self._note("write_ms", began)
        job.on_phase(job, "writes_complete")
        return writes

    def _tell(self, write: Write) -> None:
        self.job.give(frames.Data(action="write", payload=write))
        self._house.counts.wrote(write.sink, write.status)
        if write.status == "failed":
            facts = {"sink": write.sink, "why": write.reason, "http_status": write.http_status, "ms": write.ms}
            self._house.log(narrate("sink_failed", facts, job_id=self.job.id), self.job)

    # Ending

    def _fail(self, failure: TurnFailed) -> None:
        slots.withdraw(self._house, self.job)
        facts = {"code": failure.code, "why": failure.logged}
        self._house.log(narrate("turn_failed", facts, job_id=self.job.id), self.job)
        self._part()
        self._house.fail(self.job, failure.code, failure.message, retryable=failure.retryable)

    def _let_go(self) -> None:
        """Leave nothing behind at the worker, whatever ended the turn."""
        self._part()
        self.needs_worker = False
        if self._intents is not None:
            slots.withdraw(self._house, self._intents)
            self._house.jobs.forget_hidden(self._intents)
        if self.job.narrated is not None and self._house.line.holds(self.job.id):
            slots.give_back(self._house, self.job)

    def _part(self) -> None:
        """Let the job's end not end this task, and the job, which is kept, not keep the inputs of its turn."""
        self.job.on_step = lambda: None

    # Small ones

    def _check_engine(self) -> None:
        try:
            slots.check_engine(self._house.worker)
        except BadRequest as exc:
            raise TurnFailed(exc.code, exc.message) from None

    def _second_job(self) -> IntentsJob:
        tokens = self._contract.outcome.generation.intents_tokens
        terms = replace(self.job.terms, part="intents", max_tokens=tokens, idempotency_key="")
        job = IntentsJob(new_job_id(self._house.settings.worker_id), self._house.epoch, terms, self._step)
        job.started_at = self.job.started_at  # the slot has been held since then
        return job

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            self._moved.clear()
            await self._moved.wait()

    @contextlib.asynccontextmanager
    async def _within(self, seconds: float, what: str) -> AsyncIterator[None]:
        left_s = self._left(seconds)
        try:
            async with asyncio.timeout(left_s):
                yield
        except TimeoutError:
            limit_s = self._limits.turn_seconds
            whole = f"the turn took longer than {limit_s:g} s; this was {what}"
            message = whole if left_s < seconds else f"{what} took longer than {seconds:g} s"
            raise TurnFailed("timeout", message, retryable=True) from None

    def _left(self, seconds: float) -> float:
        """Return how long a phase may take: its own time, or what is left of the turn's."""
        return min(seconds, max(0.0, self.job.accepted_at + self._limits.turn_seconds - time.monotonic()))

    def _note(self, name: str, began: float) -> None:
        self._times[name] = round((time.monotonic() - began) * 1000, 3)

    def _headers(self) -> dict[str, str]:
        return {"X-Correlation-Id": self.job.terms.correlation_id, "X-Rhapsode-Turn": self.job.id}

    def _render(self, ask: Callable[[], list[ChatMessage]]) -> list[ChatMessage]:
        try:
            return ask()
        except RenderError as exc:
            raise TurnFailed("invalid_inputs", str(exc), logged=f"{exc.field}, line {exc.line}") from None


def _place_of(exc: Exception) -> str:
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"

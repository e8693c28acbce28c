"""The jobs of a turn: the one that clients see, and its hidden second generation. Used by `running`.

Pure but for the clock. The narrative's tokens go into the first job's journal like any job's. That its engine is done
does not end it: the intents, the writes and the end are still to come.
"""

import time
from collections.abc import Callable
from typing import Any

import msgspec

from rhapsode_contract import events, frames
from rhapsode_contract.results import Change, Write
from rhapsode_relay.jobs import Job
from rhapsode_relay.terms import JobTerms
from rhapsode_relay.turns.checking import MAX_BYTES

_COST_OF_JSON = 10
"""Bytes that a byte of JSON takes as objects, where it is all small values."""


class TurnJob(Job):
    """One turn, as its readers see it."""

    def __init__(self, job_id: str, epoch: str, terms: JobTerms, contract: str, narrative_bytes: int) -> None:
        super().__init__(job_id, epoch, terms)
        self.text_limit = narrative_bytes
        self.contract = contract
        self.narrated: frames.Finish | None = None
        self.narrated_at = 0.0
        self.end: events.End | None = None
        self.retryable = False
        self.on_step: Callable[[], None] = lambda: None
        """Called when the engine began, when the narrative is there, and when it is all over."""
        self.waiting: list[Callable[[], None]] = []
        """Called when it is over: those who want the whole."""

    def start(self, frame: frames.Prefill, model: str, worker: str) -> None:
        super().start(frame, model, worker)
        self.on_step()

    def hear(self, frame: frames.Token) -> str | None:
        """Take tokens of the narrative. What a worker says after its end is in no outcome, so nobody reads it."""
        return None if self.narrated is not None else super().hear(frame)

    def finish(self, frame: frames.Finish) -> None:
        """The narrative is there; the slot is kept for the intents."""
        if self.over or self.narrated is not None:
            return
        self.narrated, self.narrated_at, self.keeps_slot = frame, time.monotonic(), True
        self.on_step()

    def fail(self, code: str, message: str, *, param: str | None = None, retryable: bool = False) -> None:
        if not self.over:
            self.retryable = retryable
            super().fail(code, message, param=param, retryable=retryable)

    def measure(self, *, final: bool = False) -> None:
        """Nothing is measured between the last token and the end: what comes there has a fixed order."""
        if self.narrated is None or final:
            super().measure(final=final)

    def blame(self, wrong: str) -> tuple[str, str, bool]:
        return (*self.too_long(), False) if self.journal.text_chars > self.text_limit else super().blame(wrong)

    def too_long(self) -> tuple[str, str]:
        """Return code and message of a narrative that is longer than it may be."""
        return "narrative_too_long", f"the narrative is longer than {self.text_limit} bytes"

    def complete(
        self,
        outcome: dict[str, Any],
        normalized: list[Change],
        writes: list[Write],
        intents: frames.Finish,
        times: dict[str, float],
    ) -> None:
        """End the turn with all that came of it."""
        assert self.narrated is not None
        if self.over:
            return
        self._metrics_tokens = -1
        self.measure(final=True)
        end = self._prove(self.narrated)
        end.outcome, end.normalized, end.writes = outcome, normalized, writes
        end.usage.prompt_tokens += intents.prompt_tokens
        end.usage.completion_tokens += intents.tokens_out
        end.usage.total_tokens += intents.prompt_tokens + intents.tokens_out
        end.timing = msgspec.structs.replace(end.timing, tokens=self.tokens, **times)
        self.end = end
        self.more_bytes = _COST_OF_JSON * len(msgspec.json.encode(outcome["intents"]))
        self._close(end)

    def view(self, links: events.Links) -> events.JobView:
        view = super().view(links)
        view.contract = self.contract
        if self.end is not None:
            view.outcome, view.normalized, view.writes = self.end.outcome, self.end.normalized, self.end.writes
            view.timing = self.end.timing
        return view

    def _close(self, terminal: events.End | events.Error) -> None:
        super()._close(terminal)
        self.keeps_slot = False
        for call in [self.on_step, *self.waiting]:
            call()


class IntentsJob(Job):
    """The second generation of a turn. No client can read it, find it or stop it."""

    hidden = True
    text_limit = MAX_BYTES

    def __init__(self, job_id: str, epoch: str, terms: JobTerms, on_step: Callable[[], None]) -> None:
        super().__init__(job_id, epoch, terms)
        self.finished: frames.Finish | None = None
        self.retryable = False
        self._on_step = on_step

    def finish(self, frame: frames.Finish) -> None:
        if not self.over:
            self.finished = frame
            super().finish(frame)

    def fail(self, code: str, message: str, *, param: str | None = None, retryable: bool = False) -> None:
        if not self.over:
            self.retryable = retryable
            super().fail(code, message, param=param, retryable=retryable)

    def measure(self, *, final: bool = False) -> None:
        """Nobody reads it."""

    def _close(self, terminal: events.End | events.Error) -> None:
        super()._close(terminal)
        self._on_step()

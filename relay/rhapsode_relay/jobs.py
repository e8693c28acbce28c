"""One request from acceptance to its last event. Called by `conducting` and `hearing`. Pure but for the clock.

A job owns its journal. It decides what is said on it and when; it knows nothing of sockets, readers or HTTP.
After the terminal event nothing can be added: late frames of the worker are ignored.
"""

import hashlib
import time
from collections.abc import Callable
from typing import Any

from rhapsode_contract import events, frames
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.records import timestamp
from rhapsode_contract.wording import clean
from rhapsode_relay.encoding import StreamEncoder
from rhapsode_relay.entries import count_texts
from rhapsode_relay.journal import ALWAYS, DATA, METRICS, NARRATION, Journal
from rhapsode_relay.phases import StreamPhase
from rhapsode_relay.terms import Budget, JobTerms

_RANK = {"debug": 0, "info": 1, "warn": 2, "error": 3}
_KEPT_NARRATIONS = 20
MAX_TEXT_CHARS = 4 * 1024 * 1024
"""Longest text of one job; a worker that sends more is stopped."""


class Job:
    """One request. `status` moves queued → running → completed, cancelled or failed, and never back."""

    hidden = False
    """Whether no client may ever see it: the second generation of a turn."""
    keeps_slot = False
    """Whether the engine is done, but its slot is to be somebody's who goes on for this job."""
    may_cancel = True
    is_valid: bool | None = None
    text_limit = MAX_TEXT_CHARS

    def __init__(self, job_id: str, epoch: str, terms: JobTerms, *, seq: int = 0, text: str = "") -> None:
        self.id = job_id
        self.terms = terms
        self.more_bytes = terms.note_bytes()
        """Memory that it takes beside its journal."""
        self.status: events.JobStatus = "queued"
        self.command: frames.Generate | None = None
        self.journal = Journal(StreamEncoder(job_id, epoch, terms.correlation_id), seq=seq, text=text)
        self.tokens = 0
        self.prompt_tokens = 0
        self.position = -1
        self.token_readers = 0
        self.grace_until: float | None = None
        self.error: events.ErrorBody | None = None
        self.stop_reason: frames.StopReason | None = None
        self.accepted_at = time.monotonic()
        self.created = int(time.time())
        """The same in seconds since the epoch: all answers about a job say the same while this relay lives."""
        self.started_at: float | None = None
        self.first_token_at: float | None = None
        self.ended_at: float | None = None
        self.said: list[events.Narrated] = []
        self.on_phase: Callable[[Job, StreamPhase], None] = lambda *_: None
        self._metrics_at = 0.0
        self._metrics_tokens = 0
        self._budget = Budget(terms.max_rate, self.accepted_at)

    @property
    def over(self) -> bool:
        return self.journal.closed

    @property
    def whole(self) -> bool:
        """Whether the first event can still be read."""
        return self.journal.oldest == 1

    # What happens to it

    def queue_at(self, position: int) -> bool:
        """Tell the place in line, if it changed; return whether it did."""
        if self.over or position == self.position:
            return False
        self.position = position
        self._add(events.Queued(**self._ids(), position=position))
        return True

    def start(self, frame: frames.Prefill, model: str, worker: str) -> None:
        """The engine took the job."""
        if self.over or self.started_at is not None:
            return
        self.status = "running"
        self.started_at = time.monotonic()
        self.prompt_tokens = frame.prompt_tokens
        cached = frame.cached_tokens if isinstance(frame.cached_tokens, int) else None
        self._add(
            events.Started(
                **self._ids(),
                model=model,
                worker=worker,
                prompt_tokens=frame.prompt_tokens,
                cached_tokens=cached,
            )
        )

    def hear(self, frame: frames.Token) -> str | None:
        """Take tokens from the worker; return what is wrong with them, if anything.

        Tokens that were heard before are left out: a worker that comes back may repeat itself.
        """
        journal = self.journal
        if journal.closed or frame.i < self.tokens:
            return None
        if frame.i > self.tokens:
            return f"tokens {frame.i} on, but {self.tokens} is next"
        if frame.ts:
            n = count_texts(frame.ts)
            if n:
                journal.add_tokens(frame.ts, n, frame.i)
        elif frame.lp:
            n = journal.add_probable(frame.t, frame.i, frame.count, frame.lp)
        else:
            n = frame.count if frame.t else 0
            if n > 0:
                journal.add_token(frame.t, frame.i, n)
        self.tokens += n
        if self.first_token_at is None:
            self.first_token_at = time.monotonic()
            self.on_phase(self, "token_streaming")
        journal.ring()
        if n < 1:
            return "a token without a text, or not a probability for each"
        if self.tokens > self.terms.max_tokens or journal.text_chars > self.text_limit:
            return f"more than {self.terms.max_tokens} tokens or {self.text_limit} characters"
        return None

    def blame(self, wrong: str) -> tuple[str, str, bool]:
        """Return the error of a job whose worker sent something wrong: code, message, whether to try again."""
        return "engine_error", f"the worker sent {wrong}", True

    def wants(self, narration: frames.Narration) -> bool:
        """Whether the readers asked for narration of this level."""
        return not self.over and _RANK[narration.level] >= _RANK[self.terms.level]

    def tell(self, narration: frames.Narration) -> bool:
        """Add a narration, if its readers want it and the rate allows; return whether it was added."""
        now = time.monotonic()
        if not self.wants(narration):
            return False
        if not self._budget.take(now) and narration.level not in ("warn", "error"):
            return False
        style = self.terms.style
        event = events.Narration(
            **self._ids(),
            actor=narration.actor,
            action=narration.action,
            human=narration.human,
            level=narration.level,
            target=narration.target,
            cute=narration.cute if style in (None, "cute") else "",
            story=narration.story if style in (None, "story") else "",
            progress=narration.progress,
            fields=narration.fields,
            dropped=self._budget.dropped + narration.dropped,
        )
        self._budget.dropped = 0
        self.said.append(events.Narrated(human=event.human, action=event.action, ts=event.ts))
        del self.said[:-_KEPT_NARRATIONS]
        self._add(event, NARRATION)
        return True

    def say(self, action: str, **fields: Any) -> frames.Narration:
        """Add a narration of the relay's own, and return it for the log."""
        narration = narrate(action, fields, job_id=self.id)
        self.tell(narration)
        return narration

    def give(self, frame: frames.Data) -> None:
        """Pass on something structured."""
        if not self.over:
            self._add(events.Data(**self._ids(), action=frame.action, payload=frame.payload), DATA)

    def measure(self, *, final: bool = False) -> None:
        """Add a metrics event, if there is news and the last one is a second old."""
        if self.over or self.tokens == self._metrics_tokens:
            return
        now = time.monotonic()
        if not final and now - self._metrics_at < 1:
            return
        self._metrics_at, self._metrics_tokens = now, self.tokens
        self._add(
            events.Metrics(
                **self._ids(),
                tokens_out=self.tokens,
                queue_ms=self._since_accepted(self.started_at) or 0,
                ttft_ms=self._since_accepted(self.first_token_at),
                tok_s=self._rate(now),
            ),
            METRICS,
        )

    def finish(self, frame: frames.Finish) -> None:
        """The engine is done: prove the text and close. Not for a cancelled job."""
        if self.over:
            return
        self.measure(final=True)
        self._close(self._prove(frame))

    def _prove(self, frame: frames.Finish) -> events.End:
        """Complete the job; return the event that says so, with the length and the digest of the text."""
        text = self.journal.text()
        now = time.monotonic()
        prompt = frame.prompt_tokens or self.prompt_tokens
        self.status, self.stop_reason = "completed", frame.stop_reason
        return events.End(
            **self._ids(),
            tokens_out=frame.tokens_out,
            decode_time_ms=round(frame.decode_time_ms, 3),
            stop_reason=frame.stop_reason,
            usage=events.Usage(
                prompt_tokens=prompt,
                completion_tokens=frame.tokens_out,
                total_tokens=prompt + frame.tokens_out,
            ),
            timing=events.Timing(
                queue_ms=self._since_accepted(self.started_at) or 0,
                ttft_ms=self._since_accepted(self.first_token_at),
                decode_ms=round(frame.decode_time_ms, 3),
                total_ms=self._since_accepted(now) or 0,
            ),
            text_len=len(text),
            text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        )

    def fail(self, code: str, message: str, *, param: str | None = None, retryable: bool = False) -> None:
        """End with an error event. `partial` tells whether text was streamed."""
        if self.over:
            return
        self.measure(final=True)
        self.status = "cancelled" if code == "cancelled" else "failed"
        kind = "cancelled" if code == "cancelled" else "invalid_request_error" if param else "server_error"
        self.error = events.ErrorBody(
            message=clean(message, limit=1000),
            type=kind,
            code=code,
            param=param,
            partial=self.journal.text_chars > 0,
        )
        self._close(events.Error(**self._ids(), error=self.error, retryable=retryable))

    def snapshot(self, reason: events.SnapshotReason) -> events.Snapshot:
        """Return all that a reader needs who cannot continue where it was."""
        return events.Snapshot(
            **self._ids() | {"seq": self.journal.head},
            status=self.status,
            text=self.journal.text(),
            tokens=self.tokens,
            reason=reason,
            narration=list(self.said),
        )

    def view(self, links: events.Links) -> events.JobView:
        """Return how the job is now, for a client that asks once."""
        text = self.journal.text()
        return events.JobView(
            job_id=self.id,
            correlation_id=self.terms.correlation_id,
            status=self.status,
            seq=self.journal.head,
            text=text,
            tokens_out=self.tokens,
            text_len=len(text),
            text_sha256=hashlib.sha256(text.encode()).hexdigest(),
            stop_reason=self.stop_reason,
            error=self.error,
            links=links,
        )

    def _close(self, terminal: events.End | events.Error) -> None:
        self.ended_at = time.monotonic()
        self.grace_until = None
        self.journal.add(terminal)
        self.journal.add(events.Done(**self._ids()))
        self.journal.closed = True
        self.journal.ring()
        self.on_phase(self, "error" if self.error else "complete")

    def _add(self, event: events.StreamEvent, channel: int = ALWAYS) -> None:
        self.journal.add(event, channel)
        self.journal.ring()

    def _ids(self) -> dict[str, Any]:
        return {"seq": 0, "job_id": self.id, "correlation_id": self.terms.correlation_id, "ts": timestamp()}

    def _since_accepted(self, moment: float | None) -> float | None:
        return None if moment is None else round((moment - self.accepted_at) * 1000, 3)

    def _rate(self, now: float) -> float | None:
        if self.first_token_at is None or self.tokens < 2 or now <= self.first_token_at:
            return None
        return round((self.tokens - 1) / (now - self.first_token_at), 2)

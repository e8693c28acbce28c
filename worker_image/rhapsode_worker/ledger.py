"""What this worker owes: every job it has, with its text, until a relay surely knows how it ended. Pure.

The relay may be killed at any moment. The next one gets the jobs from here, and so does every reader.
"""

import copy
from dataclasses import dataclass, field

import msgspec

from rhapsode_contract import frames
from rhapsode_worker.joining import join_tokens, text_in, tokens_in

KEEP_OVER_S = 30.0
"""How long a job that is over is kept for a relay that died before it could tell."""
HELLO_BYTES = 48 * 1024
"""Room for jobs in one frame; JSON may escape a byte into six, so texts count six times."""


@dataclass
class Entry:
    """One job."""

    job_id: str
    meta: dict[str, object]
    correlation_id: str
    tokens: int = 0
    texts: list[frames.Token] = field(default_factory=list)
    prefill: frames.Prefill | None = None
    outcome: frames.Finish | frames.Error | None = None
    over_at: float = 0.0


class Ledger:
    """The jobs of one supervisor."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self.served = 0
        self.tokens = 0

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._entries

    def open(self, command: frames.Generate) -> None:
        self._entries[command.job_id] = Entry(command.job_id, dict(command.meta), command.correlation_id)

    def running(self) -> list[str]:
        """Return the ids of the jobs that are not over."""
        return [entry.job_id for entry in self._entries.values() if entry.outcome is None]

    def stats(self, blocks: frames.Stats) -> frames.Stats:
        """Return how busy the engine is; what its KV cache holds was told by itself."""
        return frames.Stats(
            active=len(self.running()), tokens_total=self.tokens, kv_used=blocks.kv_used, kv_total=blocks.kv_total
        )

    def correlation_of(self, job_id: str | None) -> str:
        entry = self._entries.get(job_id or "")
        return entry.correlation_id if entry else ""

    def note(self, frame: frames.WorkerFrame, now: float) -> bool:
        """Write a frame of the engine down; return whether it is to be told: not for a job that is over."""
        job_id = getattr(frame, "job_id", None)
        if job_id is None:
            return True
        entry = self._entries.get(job_id)
        if entry is None or entry.outcome is not None:
            return False
        match frame:
            case frames.Token():
                n = tokens_in(frame)
                if not entry.texts or not join_tokens(entry.texts[-1], frame):
                    entry.texts.append(copy.copy(frame))
                entry.tokens += n
                self.tokens += n
            case frames.Prefill():
                entry.prefill = frame
            case frames.Finish() | frames.Error():
                entry.outcome, entry.over_at = frame, now
                self.served += 1
        return True

    def forget_old(self, now: float) -> None:
        """Drop jobs that have been over for long enough."""
        for job_id, entry in list(self._entries.items()):
            if entry.outcome is not None and now - entry.over_at > KEEP_OVER_S:
                del self._entries[job_id]

    def drop(self, job_id: str) -> None:
        """A relay said that it needs no more of a job; one that still runs is kept until it ends."""
        entry = self._entries.get(job_id)
        if entry is not None and entry.outcome is not None:
            del self._entries[job_id]

    def introduction(self, hello: frames.Hello) -> list[frames.WorkerFrame]:
        """Return what a new relay is told: hello with all jobs that fit, the others, and what their texts lack."""
        room = HELLO_BYTES
        told: list[frames.WorkerFrame] = [hello]
        rest: list[frames.WorkerFrame] = []
        hello.jobs = []
        for entry in self._entries.values():
            state, used = _state_of(entry, room)
            room -= used
            if room > 0:
                hello.jobs.append(state)
            else:
                told.append(frames.Resume(job=state))
            rest += _what_lacks(entry, state.tokens)
        hello.resumes = len(told) - 1
        return told + rest


def _state_of(entry: Entry, room: int) -> tuple[frames.JobState, int]:
    """Return a job's state with as much of its text as `room` takes, and the room it took."""
    state = frames.JobState(job_id=entry.job_id, meta=entry.meta)
    used = 256 + len(msgspec.json.encode(entry.meta))
    parts: list[str] = []
    for frame in entry.texts:
        text = text_in(frame)
        size = 6 * len(text.encode())
        if frame.lp or used + size > room:  # a state has no place for probabilities: such tokens come as frames
            break
        used += size
        parts.append(text)
        state.tokens = frame.i + tokens_in(frame)
    state.text = "".join(parts)
    return state, used


def _what_lacks(entry: Entry, tokens: int) -> list[frames.WorkerFrame]:
    lacking: list[frames.WorkerFrame] = []
    if entry.prefill is not None:
        lacking.append(entry.prefill)
    lacking += [frame for frame in entry.texts if frame.i >= tokens]
    if entry.outcome is not None:
        lacking.append(entry.outcome)
    return lacking

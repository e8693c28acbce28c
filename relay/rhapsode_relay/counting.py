"""Plain counters of one relay; `metrics` shows them. Integers, because a library's counter costs a lock a token."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from rhapsode_relay.jobs import Job
from rhapsode_relay.phases import StreamPhase

FIRST_TOKEN_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
"""Bounds of the times to the first token; a client of a cold start waits for minutes."""

STREAM_TOKENS = (1, 8, 32, 64, 128, 256, 512, 1024, 4096, 16384)
STREAM_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)


@dataclass
class Spread:
    """How values are spread over buckets, for a histogram."""

    bounds: tuple[float, ...]
    total: float = 0.0
    counts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Yield each bound with how many values are not above it."""
        below = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            below += count
            yield bound, below


@dataclass
class Counts:
    """What happened since the process started."""

    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """Requests refused, by error code."""
    jobs_ended: dict[str, int] = field(default_factory=dict)
    """Jobs that ended, by status."""
    timed_out: dict[str, int] = field(default_factory=dict)
    """Jobs that took too long, by error code."""
    tokens: int = 0
    """Tokens of ended jobs."""
    narrations: int = 0
    narrations_dropped: int = 0
    first_token: Spread = field(default_factory=lambda: Spread(FIRST_TOKEN_S))
    """Seconds from acceptance to the first token, of jobs that ended."""
    replays: dict[str, int] = field(default_factory=dict)
    """Streams opened, by how they began: live, replay or snapshot."""
    forwarded: dict[tuple[str, str], int] = field(default_factory=dict)
    """Requests passed on to other replicas, by kind and by what came of it."""
    handed_over: dict[str, int] = field(default_factory=dict)
    """New requests that another replica took, by why we did not."""
    streams: dict[str, int] = field(default_factory=dict)
    """Streams, by how far they got: see `phases`."""
    stream_tokens: Spread = field(default_factory=lambda: Spread(STREAM_TOKENS))
    stream_s: Spread = field(default_factory=lambda: Spread(STREAM_S))
    """Tokens and seconds of streams that ended, one way or another."""
    turns_invalid: int = 0
    sink_calls: dict[tuple[str, str], int] = field(default_factory=dict)
    """What became of writes, by sink and status."""

    def stream(self, phase: StreamPhase, tokens: int, seconds: float) -> None:
        """Count a stream that got this far."""
        self.streams[phase] = self.streams.get(phase, 0) + 1
        if phase in ("complete", "error"):
            self.stream_tokens.add(tokens)
            self.stream_s.add(seconds)

    def wrote(self, sink: str, status: str) -> None:
        self.sink_calls[sink, status] = self.sink_calls.get((sink, status), 0) + 1

    def ended(self, job: Job) -> None:
        self.jobs_ended[job.status] = self.jobs_ended.get(job.status, 0) + 1
        self.tokens += job.tokens
        if job.first_token_at is not None:
            self.first_token.add(job.first_token_at - job.accepted_at)

    def narration(self, *, told: bool) -> None:
        if told:
            self.narrations += 1
        else:
            self.narrations_dropped += 1

    def refuse(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1

    def time_out(self, code: str) -> None:
        self.timed_out[code] = self.timed_out.get(code, 0) + 1

    def opened(self, how: str) -> None:
        self.replays[how] = self.replays.get(how, 0) + 1

    def forward(self, kind: str, result: str) -> None:
        self.forwarded[kind, result] = self.forwarded.get((kind, result), 0) + 1

    def hand_over(self, why: str) -> None:
        self.handed_over[why] = self.handed_over.get(why, 0) + 1

"""Plain counters of one relay; `metrics` shows them. Integers, because a library's counter costs a lock a token."""

from dataclasses import dataclass, field

from rhapsode_relay.jobs import Job


@dataclass
class Counts:
    """What happened since the process started."""

    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """Requests refused, by error code."""
    jobs_ended: dict[str, int] = field(default_factory=dict)
    """Jobs that ended, by status."""
    tokens: int = 0
    """Tokens of ended jobs."""
    narrations: int = 0
    narrations_dropped: int = 0
    replays: dict[str, int] = field(default_factory=dict)
    """Streams opened, by how they began: live, replay or snapshot."""

    def ended(self, job: Job) -> None:
        self.jobs_ended[job.status] = self.jobs_ended.get(job.status, 0) + 1
        self.tokens += job.tokens

    def narration(self, *, told: bool) -> None:
        if told:
            self.narrations += 1
        else:
            self.narrations_dropped += 1

    def refuse(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1

    def opened(self, how: str) -> None:
        self.replays[how] = self.replays.get(how, 0) + 1

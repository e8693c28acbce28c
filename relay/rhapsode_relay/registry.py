"""Which jobs there are. Called by `conducting`. Pure: the caller brings the time.

Running jobs are never dropped. Finished ones stay for a while, so that a reader can come back, and go early,
oldest first, when memory runs short.
"""

import math
import secrets
from collections import deque
from collections.abc import Iterator

from rhapsode_relay.jobs import Job

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_JOB_COST = 2048
"""Memory of a job beside its journal's entries and text."""


def new_job_id(worker_id: str) -> str:
    """Return an id that says where the job lives and that nobody can guess (80 random bits)."""
    number = secrets.randbits(80)
    return f"{worker_id}-" + "".join(_ALPHABET[number >> shift & 31] for shift in range(0, 80, 5))


class Registry:
    """Jobs by id, by correlation id and by idempotency key."""

    def __init__(self, *, keep_s: float, memory_bytes: int, max_jobs: int) -> None:
        self._keep_s = keep_s
        self._memory_bytes = memory_bytes
        self._max_jobs = max_jobs
        self._jobs: dict[str, Job] = {}
        self.get = self._jobs.get
        """Return a job by its id, or None. The dictionary's own, since every token asks."""
        self._correlated: dict[str, list[Job]] = {}
        self._keys: dict[str, Job] = {}
        self._rounds: deque[str] = deque()
        self._sizes: dict[str, int] = {}
        self.bytes = 0
        """Memory of all journals, as of the last visits."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    @property
    def full(self) -> bool:
        return self.bytes >= self._memory_bytes or len(self._jobs) >= self._max_jobs

    def add(self, job: Job, *, late: bool = False) -> None:
        """Keep a job. One that comes `late` is older than what came with its key meanwhile, which keeps the key."""
        self._jobs[job.id] = job
        self._rounds.append(job.id)
        self._weigh(job)
        self._correlated.setdefault(job.terms.correlation_id, []).append(job)
        if (key := job.terms.idempotency_key) and not (late and key in self._keys):
            self._keys[key] = job

    def hide(self, job: Job) -> None:
        """Keep a job for the worker's frames alone: it has no correlation id and no key."""
        self._jobs[job.id] = job
        self._rounds.append(job.id)
        self._weigh(job)

    def forget_hidden(self, job: Job) -> None:
        """Forget a hidden job, if that has not been done."""
        if self._jobs.pop(job.id, None) is not None:
            self.bytes -= self._sizes.pop(job.id)

    def by_key(self, key: str) -> Job | None:
        return self._keys.get(key)

    def correlated(self, correlation_id: str) -> list[Job]:
        return list(self._correlated.get(correlation_id, ()))

    def visit(self, now: float, share: float) -> Iterator[Job]:
        """Go on a round: yield a share of the jobs, the ones that waited longest; forget those whose time is over.

        A thousand jobs looked at together would hold up every token for milliseconds.
        """
        for _ in range(math.ceil(len(self._rounds) * share)):
            job = self._jobs.get(self._rounds.popleft())
            if job is None:
                continue
            if job.ended_at is not None and not job.hidden and now - job.ended_at >= self._keep_s:
                self._forget(job)
                continue
            self._rounds.append(job.id)
            self._weigh(job)
            yield job

    def make_room(self) -> None:
        """Forget finished jobs, the oldest first, until there is room again or none is left."""
        over = sorted(
            (job for job in self if job.ended_at is not None and not job.hidden), key=lambda job: job.ended_at or 0
        )
        for job in over:
            if not self.full:
                return
            self._forget(job)

    def _weigh(self, job: Job) -> None:
        size = _JOB_COST + job.journal.bytes + job.journal.text_chars + job.more_bytes
        self.bytes += size - self._sizes.get(job.id, 0)
        self._sizes[job.id] = size

    def _forget(self, job: Job) -> None:
        del self._jobs[job.id]
        self.bytes -= self._sizes.pop(job.id)
        siblings = self._correlated[job.terms.correlation_id]
        siblings.remove(job)
        if not siblings:
            del self._correlated[job.terms.correlation_id]
        if self._keys.get(job.terms.idempotency_key) is job:
            del self._keys[job.terms.idempotency_key]

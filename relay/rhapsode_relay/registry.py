"""Which jobs there are. Called by `conducting`. Pure: the caller brings the time.

Running jobs are never dropped. Finished ones stay for a while, so that a reader can come back, and go early,
oldest first, when memory runs short.
"""

import secrets
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
        self._correlated: dict[str, list[Job]] = {}
        self._keys: dict[str, Job] = {}
        self.bytes = 0
        """Memory of all journals, as of the last `tidy`."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    @property
    def full(self) -> bool:
        return self.bytes >= self._memory_bytes or len(self._jobs) >= self._max_jobs

    def add(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._correlated.setdefault(job.terms.correlation_id, []).append(job)
        if job.terms.idempotency_key:
            self._keys[job.terms.idempotency_key] = job

    def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def by_key(self, key: str) -> Job | None:
        return self._keys.get(key)

    def correlated(self, correlation_id: str) -> list[Job]:
        return list(self._correlated.get(correlation_id, ()))

    def tidy(self, now: float) -> None:
        """Forget jobs that ended long ago, or as many finished ones as memory asks for."""
        over = sorted((job for job in self if job.ended_at is not None), key=lambda job: job.ended_at or 0)
        self.bytes = sum(map(memory_of, self))
        for job in over:
            expired = now - (job.ended_at or 0) >= self._keep_s
            if not expired and not self.full:
                break
            self.bytes -= memory_of(job)
            self._forget(job)

    def _forget(self, job: Job) -> None:
        del self._jobs[job.id]
        siblings = self._correlated[job.terms.correlation_id]
        siblings.remove(job)
        if not siblings:
            del self._correlated[job.terms.correlation_id]
        if self._keys.get(job.terms.idempotency_key) is job:
            del self._keys[job.terms.idempotency_key]


def memory_of(job: Job) -> int:
    """Return about how many bytes a job takes."""
    return _JOB_COST + job.journal.bytes + job.journal.text_chars

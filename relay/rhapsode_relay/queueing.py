"""Who waits and who runs. Called by `conducting`. Pure: decides, sends nothing."""

import math
from collections import deque
from collections.abc import Iterator

from rhapsode_relay.jobs import Job

_SMOOTHING = 0.2
_MAX_RETRY_S = 60


class Line:
    """Requests in order of arrival, and the jobs that hold a slot of the worker.

    A slot is free again when the worker says so, not when a client leaves.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Job] = deque()
        self._holding: set[str] = set()
        self._slots = 0
        self._job_s: float | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._holding)

    @property
    def has_room(self) -> bool:
        """Whether another request may come: there is a free slot for it, or a place in line."""
        return self.waiting < self._limit or (self._free > 0 and not self._waiting)

    @property
    def _free(self) -> int:
        return self._slots - len(self._holding)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._waiting)

    def join(self, job: Job) -> None:
        self._waiting.append(job)

    def stands(self, job: Job) -> bool:
        """Return whether a job waits."""
        return job in self._waiting

    def leave(self, job: Job) -> bool:
        """Take a job out of the line; return whether it was in it."""
        if job not in self._waiting:
            return False
        self._waiting.remove(job)
        return True

    def open(self, slots: int) -> None:
        """The worker is ready to run `slots` jobs at once."""
        self._slots = slots

    def close(self) -> None:
        """The worker takes nothing new."""
        self._slots = 0

    def call(self) -> list[Job]:
        """Return the jobs whose turn it is; they hold a slot from now on."""
        called = [self._waiting.popleft() for _ in range(min(self._free, len(self._waiting)))]
        self._holding.update(job.id for job in called)
        return called

    def hold(self, job_id: str) -> None:
        """A job that the worker brought along holds a slot."""
        self._holding.add(job_id)

    def holds(self, job_id: str) -> bool:
        return job_id in self._holding

    def pass_on(self, job_id: str, successor_id: str) -> bool:
        """Let a job's slot be its successor's; return whether it had one. Nobody in line is passed by that."""
        if job_id not in self._holding:
            return False
        self._holding.remove(job_id)
        self._holding.add(successor_id)
        return True

    def release(self, job_id: str, seconds: float | None = None) -> None:
        """The worker is done with a job, after `seconds` if it ran to its end."""
        self._holding.discard(job_id)
        if seconds is not None:
            old = seconds if self._job_s is None else self._job_s
            self._job_s = old + _SMOOTHING * (seconds - old)

    def release_all(self) -> None:
        self._holding.clear()

    def clear(self) -> list[Job]:
        """Empty the line and return who stood in it."""
        left = list(self._waiting)
        self._waiting.clear()
        return left

    def eta_s(self, position: int) -> float | None:
        """Return about how long position `position` waits; None if there is nothing to judge by."""
        if self._job_s is None or not self._slots:
            return None
        return round(self._job_s * math.ceil((position + 1) / self._slots), 1)

    def retry_after_s(self) -> int:
        """Return when a refused client should ask again, in whole seconds."""
        eta = self.eta_s(max(0, self.waiting - 1))
        return 5 if eta is None else min(_MAX_RETRY_S, max(1, math.ceil(eta)))

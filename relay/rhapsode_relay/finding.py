"""Find the job that a client means. Called by `app` and `taking`."""

import asyncio

from rhapsode_contract.events import EventId
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.errors import ApiError, NotFound, Unavailable
from rhapsode_relay.hearing import Hearing
from rhapsode_relay.jobs import Job

_LOOK_AGAIN_S = 0.05


class JobFinder:
    """Finds jobs by id, with patience right after a restart: the worker may be about to bring them back."""

    def __init__(self, house: Conductor, hearing: Hearing, started_at: float, *, heir: bool = False) -> None:
        """`heir`: another relay was killed here, and its jobs may run on."""
        self._house = house
        self._hearing = hearing
        self._until = started_at + house.settings.reunion_s
        self._heir = heir

    async def find(self, job_id: str, last_event_id: str | None = None) -> Job:
        """Return the job. Raises NotFound, Unavailable, ApiError 410 if the cursor shows a loss in a restart."""
        while (job := self._house.jobs.get(job_id)) is None or job.hidden:
            if job is not None or self._knows_all():
                raise self._missing(job_id, last_event_id)
            await self._wait()
        return job

    async def recall(self, key: str) -> None:
        """Wait until it is known whether a request came with this Idempotency-Key before. Raises Unavailable.

        Where no relay was killed none did, and who asks is to hear at once what goes on.
        """
        while self._heir and self._house.jobs.by_key(key) is None and not self._knows_all():
            await self._wait()

    async def _wait(self) -> None:
        """Give the worker time. Raises Unavailable when we end, since whoever waits would be cut off."""
        if self._house.ending:
            raise Unavailable("this relay is ending; ask again", code="draining", retry_after_s=1)
        await asyncio.sleep(_LOOK_AGAIN_S)

    def _knows_all(self) -> bool:
        return self._hearing.knows_all or asyncio.get_running_loop().time() >= self._until

    def _missing(self, job_id: str, last_event_id: str | None) -> ApiError:
        cursor = EventId.parse(last_event_id or "")
        if cursor and cursor.stream == job_id and cursor.epoch != self._house.epoch:
            message = "the relay restarted while this job waited or after it ended; send the request again"
            return ApiError(410, "job_lost", message, retryable=True)
        keep_s = self._house.settings.keep_s
        message = f"there is no job {job_id[:100]!r}; finished ones are kept for {keep_s:.0f} s"
        return NotFound(message, code="job_not_found")

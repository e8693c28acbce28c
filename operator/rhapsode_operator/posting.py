"""Post Events, beside the reconciling: an Event that cannot be posted must not hold up a worker."""

import asyncio
import contextlib
import logging
from typing import Any, Protocol

from rhapsode_operator.errors import GoneError, OperatorError

MAX_WAITING = 5_000
"""Events that may wait; the next one is dropped and counted. A burst of 1,000 resources stays below it."""
POSTERS = 4
TRIES, PAUSE_S = 4, 0.5

Body = dict[str, Any]
_log = logging.getLogger("rhapsode.operator.events")


class EventCluster(Protocol):
    """Where Events go."""

    async def create_event(self, body: Body) -> Body: ...


class EventMeter(Protocol):
    """Counts Events: `result` is posted, known, refused, failed or dropped."""

    def event_posted(self, result: str) -> None: ...


class Poster:
    """The line of Events."""

    def __init__(self, cluster: EventCluster, meter: EventMeter) -> None:
        self._cluster, self._meter = cluster, meter
        self._line: asyncio.Queue[Body] = asyncio.Queue(MAX_WAITING)
        self._tasks: list[asyncio.Task[None]] = []

    def post(self, body: Body) -> None:
        """Have an Event posted soon."""
        try:
            self._line.put_nowait(body)
        except asyncio.QueueFull:
            self._meter.event_posted("dropped")

    async def start(self) -> None:
        """Begin to post."""
        self._tasks = [asyncio.create_task(self._work()) for _ in range(POSTERS)]

    async def stop(self) -> None:
        """Post what waits, for a second, and end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._line.join(), 1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            body = await self._line.get()
            try:
                self._meter.event_posted(await self._post(body))
            finally:
                self._line.task_done()

    async def _post(self, body: Body) -> str:
        """Post one Event; return how that went. One of the same name was posted before: it is the same."""
        for attempt in range(TRIES):
            try:
                await self._cluster.create_event(body)
            except OperatorError as exc:
                if exc.status == 409:
                    return "known"
                if isinstance(exc, GoneError):
                    return "refused"
                if exc.status in (400, 403, 422):
                    _log.warning("Event %s was refused: %s", body["reason"], exc.message)
                    return "refused"
                await asyncio.sleep(PAUSE_S * 2**attempt)
            else:
                return "posted"
        return "failed"

"""Readers: SSE connections that follow one journal, or every job of a correlation id. Called by `app`.

A reader pulls. While it waits it costs a future; when it is rung it takes all that is ready as one chunk. Who
ends it: the journal (its last event was read), the client (the generator is closed), `Readers.sweep` (it
refuses data) or `Readers.dismiss` (the process exits). Ended by the last two, the client sees a stream without
`done` and resumes.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable

from rhapsode_relay.errors import Unavailable
from rhapsode_relay.jobs import Job
from rhapsode_relay.journal import TOKEN, Cursor, Evicted, Journal

HEARTBEAT = b": hb\n"
"""A comment line without a blank line: some SDKs dispatch an empty event at a blank line once they saw an id."""
RETRY = b"retry: 2000\n"
"""Milliseconds until a browser reconnects; rides on the first event, since alone it breaks some SDKs."""


class Reader:
    """One SSE connection."""

    def __init__(self, readers: "Readers", mask: int, abort: Callable[[], None]) -> None:
        self.mask = mask
        self.abort = abort
        self.jobs: list[Job] = []
        self.yielded_at: float | None = None
        """Since when the connection has not taken what we gave it; None while it has."""
        self._readers = readers
        self._feeds: list[tuple[Journal, Cursor]] = []
        self._openings: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._dismissed = False
        readers.add(self)
        self._active_at = -math.inf
        self.endless = False
        """Whether the stream outlives its journals; it begins with a heartbeat, since there may be no event yet."""

    # Before it starts

    def follow(self, journal: Journal, cursor: Cursor, opening: bytes = b"") -> None:
        """Read a journal from a cursor on, after an opening event that has no seq of its own."""
        journal.listeners.add(self)
        self._feeds.append((journal, cursor))
        if opening:
            self._openings.append(opening)

    def follow_job(self, job: Job, cursor: Cursor, opening: bytes = b"") -> None:
        """Read a job. A reader of tokens keeps the job alive."""
        self.follow(job.journal, cursor, opening)
        self.jobs.append(job)
        if self.mask & TOKEN:
            job.token_readers += 1
            job.grace_until = None
        self.ring()

    # While it runs

    def ring(self) -> None:
        """Wake the reader. Cheap, and safe to call at any time."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def dismiss(self) -> None:
        """End the stream at the next occasion."""
        self._dismissed = True
        self.ring()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield what the client gets, one chunk per write."""
        loop = asyncio.get_running_loop()
        self._openings.insert(0, RETRY)
        try:
            while True:
                if chunk := self._take():
                    self._active_at = self.yielded_at = time.monotonic()
                    yield chunk
                    self.yielded_at = None
                elif self._dismissed or self._over():
                    return
                else:
                    self._waiter = loop.create_future()
                    await self._waiter
                    self._waiter = None
        except Evicted:
            return

    def leave(self) -> None:
        """Forget this reader. Whoever serves it calls this when its connection is done, however it ended."""
        self._readers.discard(self)
        for journal, _ in self._feeds:
            journal.listeners.discard(self)
        for job in list(self.jobs):
            self._forget(job)

    def _take(self) -> bytes:
        """Return all that is ready: openings, events, or a heartbeat when it is time for one."""
        if len(self._feeds) == 1:
            journal, cursor = self._feeds[0]
            chunk = journal.read(cursor, self.mask)
        else:
            chunk = b"".join([journal.read(cursor, self.mask) for journal, cursor in self._feeds])
        if not chunk and time.monotonic() - self._active_at >= self._readers.heartbeat_s:
            chunk = HEARTBEAT
        if self._openings:
            chunk = b"".join(self._openings) + chunk
            self._openings.clear()
        return chunk

    def _over(self) -> bool:
        if self.endless:
            self._drop_finished()
            return False
        return all(journal.closed for journal, _ in self._feeds)

    def _drop_finished(self) -> None:
        for job in [job for job in self.jobs if job.over]:
            self._forget(job)
        self._feeds = [(journal, cursor) for journal, cursor in self._feeds if not journal.closed]

    def _forget(self, job: Job) -> None:
        self.jobs.remove(job)
        job.journal.listeners.discard(self)
        if self.mask & TOKEN:
            job.token_readers -= 1
            if job.token_readers == 0 and not job.over:
                self._readers.on_left(job)


class Readers:
    """All readers of this process."""

    def __init__(self, heartbeat_s: float, stall_s: float, limit: int) -> None:
        self.heartbeat_s = heartbeat_s
        self.on_left: Callable[[Job], None] = lambda _: None
        """Called when a running job loses its last reader of tokens."""
        self.stalled = 0
        self._stall_s = stall_s
        self._limit = limit
        self._readers: set[Reader] = set()
        self._waiting: dict[str, set[Reader]] = {}

    def __len__(self) -> int:
        return len(self._readers)

    def add(self, reader: Reader) -> None:
        self._readers.add(reader)

    def discard(self, reader: Reader) -> None:
        self._readers.discard(reader)
        for correlation_id in [key for key, waiting in self._waiting.items() if reader in waiting]:
            self._waiting[correlation_id].discard(reader)
            if not self._waiting[correlation_id]:
                del self._waiting[correlation_id]

    def check_room(self, present: int) -> None:
        """Refuse one reader too many of the same stream."""
        if present >= self._limit:
            message = f"{present} readers follow this stream, which is the limit"
            raise Unavailable(message, code="too_many_readers", retry_after_s=5)

    def wait_for(self, correlation_id: str, reader: Reader) -> None:
        """Let a reader hear every job of a correlation id that is still to come."""
        waiting = self._waiting.setdefault(correlation_id, set())
        self.check_room(len(waiting))
        reader.endless = True
        waiting.add(reader)

    def introduce(self, job: Job) -> None:
        """Give a new job to those who wait for its correlation id."""
        for reader in self._waiting.get(job.terms.correlation_id, ()):
            reader.follow_job(job, job.journal.start())

    def sweep(self, now: float) -> None:
        """Wake who may need a heartbeat; cut off who has refused data for too long."""
        for reader in list(self._readers):
            if reader.yielded_at is None:
                reader.ring()
            elif now - reader.yielded_at > self._stall_s:
                self.stalled += 1
                reader.abort()

    def dismiss(self) -> None:
        """End every stream that can end; those that refuse data are cut off by `abort`."""
        for reader in list(self._readers):
            reader.dismiss()

    def abort(self) -> None:
        """Cut off everyone who is still here."""
        for reader in list(self._readers):
            reader.abort()

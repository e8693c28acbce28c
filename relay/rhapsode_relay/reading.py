"""Readers: connections that follow one journal, or every job of a correlation id. Called by `app`.

A reader pulls. Rung, it takes all that is ready as one chunk, at the end of the event loop's turn, so that what
came together leaves together. Who ends it: the journal (its last event was written), the client (it left),
`Readers.sweep` (it refuses data) or `Readers.dismiss` (the process exits). Ended by the last two, the client
sees a stream without `done` and resumes.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Literal, Protocol

from rhapsode_relay.errors import Unavailable
from rhapsode_relay.jobs import Job
from rhapsode_relay.journal import READ_BYTES, TOKEN, Cursor, Evicted, Listener

HEARTBEAT = b": hb\n"
"""A comment line without a blank line: some SDKs dispatch an empty event at a blank line once they saw an id."""
NEVER = math.inf
RETRY = b"retry: 2000\n"
"""Milliseconds until a browser reconnects; rides on the first event, since alone it breaks some SDKs."""


_logger = logging.getLogger("rhapsode.relay")


Ending = Literal["done", "dismissed", "behind"]
"""How a stream ended: with all that there was, because the process exits, or because the window left it behind."""


class Outlet(Protocol):
    """Where a reader's chunks go, which are SSE: a connection of HTTP's, or a WebSocket, which frames them anew."""

    @property
    def full(self) -> bool:
        """Whether the client has to read before more is written; the reader is rung when it did."""

    def write(self, chunk: bytes) -> None: ...

    def stall(self) -> None:
        """Send away a client that has taken nothing for too long; it may come back."""

    def abort(self) -> None:
        """Cut the connection without waiting for the client."""


class Feed(Protocol):
    """What a reader reads: a journal, or what other replicas tell."""

    closed: bool
    listeners: set[Listener]

    def read(self, cursor: Cursor, mask: int) -> bytes: ...


class Reader:
    """One stream to one client."""

    def __init__(self, readers: "Readers", mask: int, outlet: Outlet) -> None:
        self.mask = mask
        self.outlet = outlet
        self.jobs: list[Job] = []
        self.full_since = NEVER
        self.active_at = -NEVER
        self.endless = False
        """Whether the stream outlives its journals; it begins with a heartbeat, since there may be no event yet."""
        self._readers = readers
        self.at_end: Callable[[], None] = lambda: None
        """Called when it leaves."""
        self._feeds: list[tuple[Feed, Cursor]] = []
        self._openings = [RETRY]
        self._rung = False
        self._dismissed = False
        self._live = False
        self._soon = asyncio.get_running_loop().call_soon
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        readers.add(self)

    # Before it starts

    def follow(self, journal: Feed, cursor: Cursor, opening: bytes = b"") -> None:
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

    async def serve(self) -> Ending:
        """Write until the stream ends; the caller calls `leave` then, and also when this is cancelled."""
        self._live = True
        self.flush()
        return await self._ended

    def move(self, cursor: Cursor, opening: bytes) -> None:
        """Go on elsewhere in the one journal that it reads; what was written before, the client knows to drop."""
        ((journal, _),) = self._feeds
        self._feeds = [(journal, cursor)]
        self._openings.append(opening)
        self.ring()

    def ring(self) -> None:
        """There is something to read: it is written soon, with what comes until then."""
        if not self._rung:
            self._rung = True
            readers = self._readers
            if not readers.rung and not readers.collecting:
                self._soon(readers.flush)
            readers.rung.append(self)

    def flush(self) -> None:
        """Write what is ready, as far as the client takes it."""
        self._rung = False
        if not self._live:
            return
        outlet, takes = self.outlet, False
        try:
            while not outlet.full:
                takes = True
                if chunk := self._take():
                    outlet.write(chunk)
                if len(chunk) < READ_BYTES:  # that was all
                    self.active_at, self.full_since = self._readers.now, NEVER
                    if self._over():
                        self._end("done")
                    elif self._dismissed:
                        self._end("dismissed")
                    return
        except Evicted:
            self._end("behind")
        self.full_since = self._readers.now if takes else min(self.full_since, self._readers.now)  # slow is not stuck

    def _end(self, how: Ending) -> None:
        self._live = False
        if not self._ended.done():  # it is, when the client left this very moment
            self._ended.set_result(how)

    def beat(self, now: float, heartbeat_s: float) -> None:
        """Write a heartbeat if it has been silent for so long, and will be: who is rung goes on by itself."""
        if now - self.active_at >= heartbeat_s and self._live and not (self._rung or self.outlet.full):
            self.active_at = now
            self.outlet.write(HEARTBEAT)

    def dismiss(self) -> None:
        """End the stream at the next occasion."""
        self._dismissed = True
        self.ring()

    def leave(self) -> None:
        """Forget this reader, however its connection ended."""
        self._readers.discard(self)
        self.at_end()
        self._live = False
        self._ended.cancel()
        for journal, _ in self._feeds:
            journal.listeners.discard(self)
        for job in list(self.jobs):
            self._forget(job)

    def _take(self) -> bytes:
        """Return what is ready: openings, then events; a stream with neither begins with a heartbeat."""
        chunk = b""
        for journal, cursor in self._feeds:
            read = journal.read(cursor, self.mask)
            chunk = chunk + read if chunk else read
        if self._openings:
            chunk = b"".join(self._openings) + (chunk or HEARTBEAT)
            self._openings.clear()
        return chunk

    def _over(self) -> bool:
        """Return whether nothing more can come. A stream that outlives its journals lets go of those that ended."""
        if self.endless:
            if any(journal.closed for journal, _ in self._feeds):
                self._drop_finished()
            return False
        for journal, _ in self._feeds:  # noqa: SIM110 (every token asks; a generator costs more than all else here)
            if not journal.closed:
                return False
        return True

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
        self.on_left: Callable[[Job], None] = lambda _: None
        """Called when a running job loses its last reader of tokens."""
        self.stalled = 0
        self.rung: list[Reader] = []
        """Who has something to write."""
        self.collecting = False
        """Whether whoever rings calls `flush` when it is done: one turn of the event loop less for each token."""
        self.now = time.monotonic()
        """The time as of the last sweep: near enough for heartbeats, and free."""
        self._heartbeat_s = heartbeat_s
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

    def flush(self) -> None:
        """Let everyone write who was rung. One that fails is cut off and harms nobody else."""
        self.collecting = False
        rung, self.rung = self.rung, []
        for reader in rung:
            try:
                reader.flush()
            except Exception as exc:
                _cut_off(reader, exc)

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
        """Write heartbeats that are due; cut off who has refused data for too long, or fails."""
        self.now = now
        for reader in list(self._readers):
            try:
                self._look_after(reader)
            except Exception as exc:
                _cut_off(reader, exc)

    def _look_after(self, reader: Reader) -> None:
        if self.now - reader.full_since > self._stall_s:
            self.stalled += 1
            reader.full_since = NEVER
            reader.outlet.stall()
        else:
            reader.beat(self.now, self._heartbeat_s)

    def dismiss(self) -> None:
        """End every stream that can end; those that refuse data are cut off by `abort`."""
        for reader in list(self._readers):
            reader.dismiss()

    def abort(self) -> None:
        """Cut off everyone who is still here."""
        for reader in list(self._readers):
            reader.outlet.abort()


def _cut_off(reader: Reader, why: Exception) -> None:
    """End the connection of a reader that fails, such as one whose protocol has no way to say an event."""
    _logger.error("a reader failed", exc_info=why)
    reader.outlet.abort()

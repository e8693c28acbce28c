"""Readers among each other: one that leaves or fails at the wrong moment harms nobody else."""

import asyncio
import math

import pytest

from rhapsode_contract import events
from rhapsode_contract.requests import InferenceRequest
from rhapsode_relay.encoding import StreamEncoder
from rhapsode_relay.jobs import Job
from rhapsode_relay.joining import Inlet
from rhapsode_relay.journal import EVERYTHING, READ_BYTES, Cursor, Journal
from rhapsode_relay.reading import HEARTBEAT, Reader, Readers
from rhapsode_relay.terms import JobTerms
from support.processes import DEADLINE_S


class Page:
    """An outlet that keeps what is written."""

    full = False

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False
        self.broken = False

    def write(self, chunk: bytes) -> None:
        if self.broken:
            raise OSError("the connection is a lie")
        self.written += chunk

    def abort(self) -> None:
        self.aborted = True

    stall = abort


def make_readers(*pages: Page) -> tuple[Readers, Journal, list[Reader]]:
    readers, journal = Readers(15, 30, 100), Journal(StreamEncoder("w-1", "e", "c"))
    made = [Reader(readers, EVERYTHING, page) for page in pages]
    for reader in made:
        reader.follow(journal, journal.start())
    return readers, journal, made


async def test_a_reader_that_leaves_as_the_stream_ends_stops_nobody_else() -> None:
    """The task of a client that is gone is cancelled one turn before the reader hears of it."""
    pages = [Page(), Page()]
    _, journal, made = make_readers(*pages)
    serving = [asyncio.create_task(reader.serve()) for reader in made]
    await asyncio.sleep(0)
    serving[0].cancel()
    journal.add(events.Done(seq=0))
    journal.closed = True
    journal.ring()
    await asyncio.wait_for(serving[1], DEADLINE_S)
    assert b"event: done" in pages[1].written
    with pytest.raises(asyncio.CancelledError):
        await serving[0]


async def test_a_reader_that_fails_is_cut_off_and_stops_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    pages = [Page(), Page()]
    _, journal, made = make_readers(*pages)
    serving = [asyncio.create_task(reader.serve()) for reader in made]
    await asyncio.sleep(0)
    pages[0].broken = True
    journal.add(events.Done(seq=0))
    journal.closed = True
    journal.ring()
    await asyncio.wait_for(serving[1], DEADLINE_S)
    assert b"event: done" in pages[1].written
    assert (pages[0].aborted, pages[1].aborted) == (True, False)
    assert "a reader failed" in caplog.text
    serving[0].cancel()


async def test_a_reader_that_fails_at_a_heartbeat_is_cut_off_and_stops_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who sweeps is the relay's own clock: it must not end with a reader."""
    pages = [Page(), Page()]
    readers, _, made = make_readers(*pages)
    serving = [asyncio.create_task(reader.serve()) for reader in made]
    await asyncio.sleep(0)
    pages[0].broken = True
    readers.sweep(math.inf)
    assert (pages[0].aborted, pages[1].aborted) == (True, False)
    assert pages[1].written.endswith(HEARTBEAT)
    assert "a reader failed" in caplog.text
    for task in serving:
        task.cancel()


async def test_there_is_no_heartbeat_amid_what_is_about_to_be_written() -> None:
    page = Page()
    readers, journal, (reader,) = make_readers(page)
    page.full = True
    serving = asyncio.create_task(reader.serve())
    await asyncio.sleep(0)
    journal.add(events.Queued(seq=0, position=0))
    page.full = False
    reader.ring()
    readers.sweep(1e9)
    assert page.written == b""
    await asyncio.sleep(0)
    assert page.written.count(b"event: queued") == 1
    assert HEARTBEAT not in page.written
    serving.cancel()


async def test_a_screen_lets_go_of_jobs_that_are_over_while_others_are_told_from_elsewhere() -> None:
    """It may stay for days; what other replicas tell never ends."""
    readers = Readers(15, 30, 100)
    screen = Reader(readers, EVERYTHING, page := Page())
    screen.follow(Inlet(), Cursor(0, 0))
    readers.wait_for("c", screen)
    serving = asyncio.create_task(screen.serve())
    jobs = [
        Job(f"w-{number}", "e", JobTerms.of(InferenceRequest(prompt="x"), "c", "grace", "", "")) for number in "ab"
    ]
    for job in jobs:
        readers.introduce(job)
    jobs[0].fail("cancelled", "enough")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert page.written.count(b"event: done") == 1
    assert (jobs[0].journal.listeners, screen.jobs) == (set(), [jobs[1]]), "one that runs holds no other back"
    jobs[1].fail("cancelled", "enough")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert screen.jobs == []
    assert len(screen._feeds) == 1
    screen.leave()
    with pytest.raises(asyncio.CancelledError):
        await serving


class Bottleneck(Page):
    """An outlet that is full after each write, until its client took that."""

    stalled = False

    def write(self, chunk: bytes) -> None:
        super().write(chunk)
        self.full = True

    def stall(self) -> None:
        self.stalled = True


async def test_who_takes_a_long_text_slowly_is_not_cut_off_and_who_takes_nothing_is() -> None:
    """However long it is behind: what it took a moment ago shows that it reads."""
    readers, journal, (reader,) = make_readers(slow := Bottleneck())
    serving = asyncio.create_task(reader.serve())
    for i in range(20):
        journal.add_token("x" * READ_BYTES, i)
    await asyncio.sleep(0)
    for taken in range(1, 10):
        readers.sweep(readers.now + 20)
        assert (slow.written.count(b"event: token"), slow.stalled) == (taken, False)
        slow.full = False
        reader.ring()
        await asyncio.sleep(0)
    readers.sweep(readers.now + 20)
    assert not slow.stalled
    readers.sweep(readers.now + 20)
    assert slow.stalled
    serving.cancel()

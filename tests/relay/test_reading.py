"""Readers among each other: one that leaves or fails at the wrong moment harms nobody else."""

import asyncio

import pytest

from rhapsode_contract import events
from rhapsode_relay.encoding import StreamEncoder
from rhapsode_relay.journal import EVERYTHING, Journal
from rhapsode_relay.reading import Reader, Readers


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
    await asyncio.wait_for(serving[1], 5)
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
    await asyncio.wait_for(serving[1], 5)
    assert b"event: done" in pages[1].written
    assert (pages[0].aborted, pages[1].aborted) == (True, False)
    assert "a reader failed" in caplog.text
    serving[0].cancel()

"""What happened on one stream, in order: appended once, read by many at their own pace. Called by `jobs`. Pure.

Readers pull. A reader is a cursor, so a slow one costs nothing but its cursor, and what is ready when it asks
is encoded and joined into one write. Tokens are kept as text (a few bytes each) and encoded when read; other
events are kept ready to send. The window is bounded by events and bytes; text that leaves it is kept, so a
snapshot is always whole.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from rhapsode_contract.events import StreamEvent
from rhapsode_contract.frames import TOKEN_SEPARATOR
from rhapsode_relay.encoding import StreamEncoder
from rhapsode_relay.entries import PART_COST, Event, Run

WINDOW_EVENTS = 65_536
"""Events that a cursor may lie behind before only a snapshot can help."""
WINDOW_BYTES = 4 * 1024 * 1024
"""Memory that the window of one stream may take."""
RUN_TOKENS = 512
"""Tokens after which a run is closed: the unit of eviction, and with the budget the size of a write."""
RUN_CHARS = 16 * 1024
"""Text after which a run is closed."""
READ_BYTES = 64 * 1024
"""A read stops at the first entry beyond this size; the write buffer of a connection is as large."""

NARRATION, TOKEN, DATA, METRICS, ALWAYS = 1, 2, 4, 8, 16
EVERYTHING = 31


class Listener(Protocol):
    """Someone who wants to know that there is something to read."""

    def ring(self) -> None: ...


class Evicted(Exception):
    """The window has moved past this cursor."""


class Cursor:
    """How far one reader is: `seq` is the last event it has."""

    __slots__ = ("entry", "part", "seq")

    def __init__(self, seq: int, entry: int, part: int = 0) -> None:
        self.seq = seq
        self.entry = entry
        self.part = part


class Journal:
    """The events of one stream. `head` is the last seq; `closed` says that no more will come."""

    def __init__(self, encoder: StreamEncoder, *, seq: int = 0, text: str = "") -> None:
        self.encoder = encoder
        self.head = seq
        self.closed = False
        self.listeners: set[Listener] = set()
        self.bytes = 0
        self.text_chars = len(text)
        self._entries: list[Event | Run] = []
        self._open: Run | None = None
        self._base = 0
        self._events = 0
        self._kept = [text] if text else []
        self._latest: dict[str, Event] = {}
        self._shared: tuple[tuple[int, int], bytes] = ((0, 0), b"")

    # Writing

    def add(self, event: StreamEvent, channel: int = ALWAYS, *, supersede: str = "") -> None:
        """Append an event, which gets the next seq. One that supersedes replaces its predecessor of that name."""
        self.head = event.seq = self.head + 1
        entry = Event(self.head, channel, self.encoder.event(event))
        if supersede:
            if old := self._latest.get(supersede):
                self.bytes -= len(old.data)
                old.data = b""
            self._latest[supersede] = entry
        self._entries.append(entry)
        self._open = None
        self._grew(1, entry.cost())

    def add_token(self, text: str, i: int, count: int = 1) -> None:
        """Append the text of token `i`, or of `count` tokens from `i` on."""
        self.head += 1
        run = self._open
        if count != 1 or TOKEN_SEPARATOR in text:
            run = self._begin_run(i)
            run.literal, run.count, self._open = True, count, None
        elif run is None or run.i + run.n != i or run.n >= RUN_TOKENS or run.size >= RUN_CHARS:
            run = self._begin_run(i)
        run.parts.append(text)
        run.n += 1
        size = len(text)
        run.size += size
        self.text_chars += size
        self._events += 1
        self.bytes += size + PART_COST
        if self._events > WINDOW_EVENTS or self.bytes > WINDOW_BYTES:
            self._evict()

    def add_tokens(self, texts: str, n: int, i: int) -> None:
        """Append `n` tokens from `i` on, given as separated texts."""
        self.head += 1
        run = self._open
        if run is None or run.i + run.n != i or run.n >= RUN_TOKENS or run.size >= RUN_CHARS:
            run = self._begin_run(i)
        self.head += n - 1
        run.parts.append(texts)
        run.n += n
        run.size += len(texts)
        self.text_chars += len(texts) - n + 1
        self._grew(n, len(texts) + PART_COST)

    def add_probable(self, text: str, i: int, count: int, logprobs: tuple[float, ...]) -> int:
        """Append the text of `count` tokens and how probable each was; return how many, 0 if they do not fit."""
        if not text or len(logprobs) != count:
            return 0
        self.head += 1
        run = self._begin_run(i)
        run.literal, run.count, run.logprobs, self._open = True, count, logprobs, None
        run.parts, run.n, run.size = [text], 1, len(text)
        self.text_chars += len(text)
        self._grew(1, run.cost())
        return count

    def ring(self) -> None:
        """Tell everyone who listens."""
        for listener in self.listeners:
            listener.ring()

    def _begin_run(self, i: int) -> Run:
        self._open = run = Run(self.head, i)
        self._entries.append(run)
        return run

    def _grew(self, events: int, cost: int) -> None:
        self._events += events
        self.bytes += cost
        if self._events > WINDOW_EVENTS or self.bytes > WINDOW_BYTES:
            self._evict()

    def _evict(self) -> None:
        """Drop entries until a sixteenth of the window is free, so that eviction is rare."""
        drop = 0
        for entry in self._entries[:-1]:
            if self._events <= WINDOW_EVENTS * 15 // 16 and self.bytes <= WINDOW_BYTES * 15 // 16:
                break
            if isinstance(entry, Run):
                self._kept.append(entry.text())
            self._events -= entry.n
            self.bytes -= entry.cost()
            drop += 1
        del self._entries[:drop]
        self._base += drop
        self._kept = ["".join(self._kept)]

    # Reading

    @property
    def oldest(self) -> int:
        """The first seq that can still be read."""
        return self._entries[0].seq if self._entries else self.head + 1

    def text(self) -> str:
        """Return the whole text so far."""
        runs = (entry.text() for entry in self._entries if isinstance(entry, Run))
        return "".join((*self._kept, *runs))

    def start(self) -> Cursor:
        """Return a cursor before the oldest event."""
        return Cursor(self.oldest - 1, self._base)

    def end(self) -> Cursor:
        """Return a cursor after the newest event."""
        last = self._entries[-1] if self._entries else None
        if isinstance(last, Run):
            return Cursor(self.head, self._base + len(self._entries) - 1, len(last.parts))
        return Cursor(self.head, self._base + len(self._entries))

    def seek(self, seq: int) -> Cursor | None:
        """Return the cursor of a reader that has everything up to `seq`; None if the window cannot tell."""
        if seq == self.head:
            return self.end()
        if not self.oldest - 1 <= seq < self.head:
            return None
        index = bisect_right(self._entries, seq + 1, key=lambda entry: entry.seq) - 1
        entry = self._entries[index]
        part = 0
        if isinstance(entry, Run) and not entry.literal:
            passed = seq + 1 - entry.seq
            while passed >= (n := entry.parts[part].count(TOKEN_SEPARATOR) + 1):
                passed -= n
                part += 1
        return Cursor(seq, self._base + index, part)

    def read(self, cursor: Cursor, mask: int = EVERYTHING) -> bytes:
        """Return what follows the cursor, of the channels in `mask`, and move it. Empty: nothing now.

        Raises Evicted when the window has moved past the cursor.
        """
        index = cursor.entry - self._base
        if index < 0:
            raise Evicted
        run = self._open
        if run is not None and run is self._entries[index]:  # a live reader of tokens: nearly always
            return self._read_end(run, cursor, mask)
        return self._read_on(index, cursor, mask)

    def _read_on(self, index: int, cursor: Cursor, mask: int) -> bytes:
        """Read entries from one on, until the end or about `READ_BYTES`."""
        chunks: list[bytes] = []
        size = 0
        last = len(self._entries) - 1
        for entry in islice(self._entries, index, None):
            chunk = b""
            if type(entry) is Event:
                chunk = entry.data if entry.channel & mask else b""
            elif type(entry) is Run and cursor.seq < entry.seq + entry.n - 1 and mask & TOKEN:
                chunk = self._encode_run(entry, cursor)
            if chunk:
                chunks.append(chunk)
                size += len(chunk)
            cursor.seq = entry.seq + entry.n - 1
            cursor.part = len(entry.parts)
            if index == last and entry is self._open:
                break
            index, cursor.part = index + 1, 0
            if size >= READ_BYTES:
                break
        cursor.entry = self._base + index
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _read_end(self, run: Run, cursor: Cursor, mask: int) -> bytes:
        """Read the rest of the open run, which is the end of the journal."""
        if not mask & TOKEN or cursor.seq == self.head:
            chunk = b""
        elif len(self.listeners) == 1:
            chunk = self._encode_run(run, cursor)
        else:
            chunk = self._share_run(run, cursor)
        cursor.part = len(run.parts)
        cursor.seq = self.head
        return chunk

    def _share_run(self, run: Run, cursor: Cursor) -> bytes:
        """Encode the rest of the open run once for all readers that go in step."""
        key = (cursor.seq, self.head)
        if self._shared[0] != key:
            self._shared = (key, self._encode_run(run, cursor))
        return self._shared[1]

    def _encode_run(self, run: Run, cursor: Cursor) -> bytes:
        """Encode the rest of a run."""
        first = cursor.seq + 1
        passed = first - run.seq
        n = run.n - passed
        if n == 1:
            text = run.parts[-1]
            if run.literal or TOKEN_SEPARATOR not in text:
                return self.encoder.token(text, first, run.i + passed, run.count, run.logprobs)
        return self.encoder.tokens(TOKEN_SEPARATOR.join(run.parts[cursor.part :]), n, first, run.i + passed)

    def behind(self, cursor: Cursor) -> bool:
        """Return whether there is something after the cursor, on whatever channel."""
        return cursor.seq < self.head

    def events(self) -> Iterator[bytes]:
        """Yield everything that is in the window, for tests and snapshots."""
        cursor = self.start()
        while data := self.read(cursor):
            yield data

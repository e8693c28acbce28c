"""Where a reader of a job begins. Called by `app`. Pure.

Without a cursor a reader gets everything. A cursor that cannot be honoured gets a snapshot with the whole text
rather than an error, because a browser's EventSource cannot read one.
"""

from typing import NamedTuple

from rhapsode_contract.events import CHANNELS, EventId, Replay, SnapshotReason
from rhapsode_contract.records import timestamp
from rhapsode_relay.errors import BadRequest
from rhapsode_relay.jobs import Job
from rhapsode_relay.journal import ALWAYS, EVERYTHING, Cursor

_CLOSING_EVENTS = 2
"""The terminal event and `done`, which also a snapshot is followed by."""


class Beginning(NamedTuple):
    """Where to read on, the event to open with, and what the `X-Replay` header says."""

    cursor: Cursor
    opening: bytes
    how: str


def parse_channels(text: str | None) -> int:
    """Return the mask of `channels=`. Raises BadRequest."""
    if not text:
        return EVERYTHING
    bits: dict[str, int] = {name: 1 << shift for shift, name in enumerate(CHANNELS)}
    wanted = {name.strip() for name in text.split(",")} - {""}
    if unknown := sorted(wanted - bits.keys()):
        message = f"unknown channel {unknown[0][:40]!r}; there are {', '.join(CHANNELS)}"
        raise BadRequest(message, param="channels")
    return sum((bits[name] for name in wanted), ALWAYS)


def parse_after(text: str | None) -> int | None:
    """Return the seq of `after=`. Raises BadRequest."""
    return None if text is None else read_cursor("after", text, "seq")


def read_cursor(name: str, text: str, what: str) -> int:
    """Return the number of the last event that a client has, which a parameter gives. Raises BadRequest."""
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        message = f"'{name}' is the {what} of the last event you have, got {text[:40]!r}"
        raise BadRequest(message, code="invalid_cursor", param=name)
    return int(text)


def begin(job: Job, epoch: str, last_event_id: str | None, after: int | None) -> Beginning:
    """Return where a reader begins. `Last-Event-ID` wins over `after`."""
    if last_event_id is None and after is None:
        if job.whole:
            return Beginning(job.journal.start(), b"", "live")
        return _snapshot(job, "evicted")
    if last_event_id is None:
        return _continue(job, after or 0)
    cursor = EventId.parse(last_event_id)
    if cursor is None or cursor.stream != job.id:
        return _snapshot(job, "cursor")
    return _snapshot(job, "epoch") if cursor.epoch != epoch else _continue(job, cursor.seq)


def is_complete(job: Job, epoch: str, last_event_id: str | None, after: int | None) -> bool:
    """Return whether a reader has everything of a job that is over: it is told to stop for good."""
    if not job.over:
        return False
    if last_event_id is not None:
        return last_event_id == str(EventId(job.id, epoch, job.journal.head))
    return after == job.journal.head


def join(job: Job) -> Beginning:
    """Return where a reader begins that comes back to a correlation id with another job's cursor."""
    return _snapshot(job, "joined")


def _continue(job: Job, seq: int) -> Beginning:
    cursor = job.journal.seek(seq) if seq or job.whole else None
    if cursor is None:
        return _snapshot(job, "cursor" if seq > job.journal.head else "evicted")
    event = Replay(
        seq=seq,
        job_id=job.id,
        correlation_id=job.terms.correlation_id,
        ts=timestamp(),
        from_=seq + 1,
        to=job.journal.head,
        gap=False,
    )
    return Beginning(cursor, job.journal.encoder.event(event), "replay")


def _snapshot(job: Job, reason: SnapshotReason) -> Beginning:
    event = job.snapshot(reason)
    cursor = job.journal.end()
    if job.over:
        event.seq -= _CLOSING_EVENTS
        cursor = job.journal.seek(event.seq) or cursor
    return Beginning(cursor, job.journal.encoder.event(event), "snapshot")

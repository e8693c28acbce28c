"""Open readers of jobs, the same for SSE and WebSocket. Called by `app` and `socket_routes`."""

from typing import NamedTuple

from quart import request

from rhapsode_relay import resuming
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.jobs import Job
from rhapsode_relay.reading import Outlet, Reader, Readers


class Place(NamedTuple):
    """What a client wants to read of a job, and how much of it it has."""

    mask: int
    last_event_id: str | None
    after: int | None


class Opener:
    """Opens readers, counts them, and lets the job tell of those that came back."""

    def __init__(self, house: Conductor, readers: Readers) -> None:
        self.counts = house.counts
        self._house = house
        self._readers = readers

    def open(self, job: Job, outlet: Outlet, place: Place) -> tuple[Reader, str] | None:
        """Return a reader and how it begins; None for one that has everything. Raises Unavailable."""
        if resuming.is_complete(job, self._house.epoch, place.last_event_id, place.after):
            return None
        self._readers.check_room(len(job.journal.listeners))
        start = self._begin(job, place)
        reader = Reader(self._readers, place.mask, outlet)
        reader.follow_job(job, start.cursor, start.opening)
        return reader, start.how

    def move(self, reader: Reader, last_event_id: str) -> bool:
        """Let the reader of one job go on after an event instead; return whether there is anything to come."""
        (job,) = reader.jobs
        if resuming.is_complete(job, self._house.epoch, last_event_id, None):
            return False
        start = self._begin(job, Place(reader.mask, last_event_id, None))
        reader.move(start.cursor, start.opening)
        return True

    def _begin(self, job: Job, place: Place) -> resuming.Beginning:
        start = resuming.begin(job, self._house.epoch, place.last_event_id, place.after)
        self.counts.opened(start.how)
        if start.how != "live" and not job.over:
            self._house.log(job.say("resumed", seq=start.cursor.seq), job)
        return start


def asked_id() -> str | None:
    """Return the last event that the client says it has; a page that opens a stream cannot set a header."""
    return request.headers.get("Last-Event-ID", request.args.get("last_event_id"))


def asked_place() -> Place:
    """Return what this request asks for. Raises BadRequest."""
    return Place(
        mask=resuming.parse_channels(request.args.get("channels")),
        last_event_id=asked_id(),
        after=resuming.parse_after(request.args.get("after")),
    )

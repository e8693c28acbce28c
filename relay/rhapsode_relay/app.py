"""The client port: requests in, streams out. Translates HTTP to calls of `Conductor` and `Readers`, no more."""

import hashlib

import msgspec
from quart import Quart, Response, request

from rhapsode_contract import events, names
from rhapsode_contract.requests import InferenceRequest
from rhapsode_relay import resuming
from rhapsode_relay.admitting import check_request
from rhapsode_relay.answering import (
    adopt_correlation,
    bare_app,
    correlation_id,
    decode_body,
    event_stream,
    json_answer,
)
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.errors import BadRequest, Unauthorized, Unavailable
from rhapsode_relay.finding import JobFinder
from rhapsode_relay.jobs import Job
from rhapsode_relay.keys import KeyFolder
from rhapsode_relay.neighbours import Neighbours
from rhapsode_relay.reading import Reader, Readers
from rhapsode_relay.serving import client_of
from rhapsode_relay.worker_routes import worker_routes

_requests = msgspec.json.Decoder(InferenceRequest)


def create_app(
    house: Conductor,
    readers: Readers,
    finder: JobFinder,
    keys: KeyFolder | None,
    neighbours: Neighbours | None = None,
) -> Quart:
    """Return the application of the client port; `keys` let clients in, without them everyone may come."""
    app = bare_app("rhapsode-relay", house.counts)
    if keys is not None:
        _lock(app, keys)
    app.register_blueprint(worker_routes(house, readers))
    desk = _Desk(house, readers, neighbours)

    @app.post("/v1/inference")
    async def infer() -> Response:
        accepted = await desk.accept()
        if isinstance(accepted, Response):
            return accepted
        job, new = accepted
        if "text/event-stream" in request.headers.get("Accept", "").lower():
            return desk.stream(job)
        return desk.acknowledge(job, new=new)

    @app.post("/execute")
    async def execute() -> Response:
        accepted = await desk.accept()
        return accepted if isinstance(accepted, Response) else desk.stream(accepted[0])

    @app.get("/v1/models")
    async def models() -> Response:
        model = {"id": house.settings.model, "object": "model", "created": 0, "owned_by": "rhapsode"}
        return json_answer({"object": "list", "data": [model]})

    _add_job_routes(app, desk, house, finder)
    return app


def _lock(app: Quart, keys: KeyFolder) -> None:
    @app.before_request
    async def check_key() -> None:
        if not keys.opens(request.headers.get("Authorization", ""), request.headers.get("X-Api-Key", "")):
            raise Unauthorized


def _add_job_routes(app: Quart, desk: "_Desk", house: Conductor, finder: JobFinder) -> None:
    @app.get("/v1/inference/<job_id>/stream")
    async def stream(job_id: str) -> Response:
        if passage := await desk.elsewhere(job_id, "stream"):
            return passage
        return desk.stream(await finder.find(job_id, request.headers.get("Last-Event-ID")))

    @app.get("/v1/inference/<job_id>")
    async def show(job_id: str) -> Response:
        if passage := await desk.elsewhere(job_id, "snapshot"):
            return passage
        return desk.describe(await finder.find(job_id))

    @app.delete("/v1/inference/<job_id>")
    async def cancel(job_id: str) -> Response:
        if passage := await desk.elsewhere(job_id, "cancel"):
            return passage
        job = await finder.find(job_id)
        house.cancel(job, "client")
        return desk.describe(job)

    @app.get("/v1/correlations/<wanted>/stream")
    async def correlate(wanted: str) -> Response:
        return desk.stream_correlation(wanted)


class _Desk:
    """What the routes have in common."""

    def __init__(self, house: Conductor, readers: Readers, neighbours: Neighbours | None) -> None:
        self._house = house
        self._readers = readers
        self._neighbours = neighbours

    async def accept(self) -> tuple[Job, bool] | Response:
        """Accept the request in this body, or the one that came with its Idempotency-Key before.

        One that we cannot serve at once goes to another replica that can: then this is its answer.
        """
        body = await request.get_data(as_text=False)
        assert isinstance(body, bytes)
        wanted, key = decode_body(_requests, body), _idempotency_key()
        hop = self._neighbours.hop() if self._neighbours is not None else ""
        why = self._reason_to_ask(key, hop) if self._neighbours is not None else ""
        if why and (answer := await self._ask(why, wanted, key, body)):
            return answer
        job, new = self._house.submit(wanted, correlation_id(), key, hashlib.sha256(body).hexdigest())
        adopt_correlation(job.terms.correlation_id)
        if new and hop and self._neighbours is not None and self._neighbours.peers.knows(hop):
            self._house.welcome_from(job, hop)
        return job, new

    def _reason_to_ask(self, key: str, hop: str) -> str:
        """Return why a request should be another replica's; empty if it is ours. Raises Unavailable."""
        if key and self._house.jobs.by_key(key):
            return ""
        why = self._house.trouble()
        if not hop:
            return why or ("taken" if key else "")
        if why == "loading":
            message = "this replica is not ready; the one that asked keeps the request"
            raise Unavailable(message, code="worker_loading", retry_after_s=1)
        return ""

    async def _ask(self, why: str, wanted: InferenceRequest, key: str, body: bytes) -> Response | None:
        assert self._neighbours is not None
        exchange = self._neighbours.exchange
        async with exchange.turn(key):
            if key and self._house.jobs.by_key(key):
                return None
            if key and (answer := await exchange.repeat(key, body)):
                return answer
            if why == "taken":
                return None
            check_request(wanted, self._house.settings.model, self._house.worker)
            return await exchange.hand_over(why, key, body)

    async def elsewhere(self, job_id: str, kind: str) -> Response | None:
        """Answer for another replica's job with what that one says; None if the job is ours, or nobody's."""
        if self._neighbours is None:
            return None
        forwarder = self._neighbours.forwarder
        owner = forwarder.owner_of(job_id)
        return None if owner is None else await forwarder.forward(owner, kind, job_id)

    def acknowledge(self, job: Job, *, new: bool) -> Response:
        """Answer 202, or 200 for a job that was accepted before, with where to find it."""
        links = _links(job)
        body = events.Accepted(job_id=job.id, status=job.status, sse_url=links.stream, links=links)
        return json_answer(body, 202, {"Location": links.self, "X-Job-Id": job.id} | ({} if new else _REPLAYED))

    def stream(self, job: Job) -> Response:
        """Answer with the job's stream, from where this client was."""
        adopt_correlation(job.terms.correlation_id)
        mask = resuming.parse_channels(request.args.get("channels"))
        after = resuming.parse_after(request.args.get("after"))
        cursor_id = request.headers.get("Last-Event-ID")
        if resuming.is_complete(job, self._house.epoch, cursor_id, after):
            return Response(b"", 204)
        self._readers.check_room(len(job.journal.listeners))
        start = resuming.begin(job, self._house.epoch, cursor_id, after)
        self._house.counts.opened(start.how)
        if start.how != "live" and not job.over:
            self._house.log(job.say("resumed", seq=start.cursor.seq), job)
        reader = self._reader(mask)
        reader.follow_job(job, start.cursor, start.opening)
        link = f'<{_links(job).stream}>; rel="events"'
        return event_stream(reader, {"X-Job-Id": job.id, "X-Replay": start.how, "Link": link})

    def stream_correlation(self, wanted: str) -> Response:
        """Answer with every job of a correlation id, those to come included."""
        if not names.CORRELATION_ID.fullmatch(wanted):
            raise BadRequest("a correlation id is 1 to 64 of letters, digits, '.', '_' and '-'", param="id")
        hop = self._neighbours.hop() if self._neighbours is not None else ""
        reader = self._reader(resuming.parse_channels(request.args.get("channels")))
        cursor_id = request.headers.get("Last-Event-ID")
        known = events.EventId.parse(cursor_id) if cursor_id else None
        try:
            self._readers.wait_for(wanted, reader)
        except Exception:
            reader.leave()
            raise
        for job in self._house.jobs.correlated(wanted):
            if known is not None and known.stream == job.id:
                start = resuming.begin(job, self._house.epoch, cursor_id, None)
            else:
                start = resuming.begin(job, "", None, None) if known is None else resuming.join(job)
            reader.follow_job(job, start.cursor, start.opening)
        if self._neighbours is not None and not hop and request.method != "HEAD":
            self._neighbours.join(reader)
        return event_stream(reader)

    def describe(self, job: Job) -> Response:
        """Answer with how the job is now."""
        adopt_correlation(job.terms.correlation_id)
        return json_answer(job.view(_links(job)), headers={"X-Job-Id": job.id})

    def _reader(self, mask: int) -> Reader:
        return Reader(self._readers, mask, client_of(request.scope))


_REPLAYED = {"Idempotent-Replayed": "true"}


def _links(job: Job) -> events.Links:
    path = f"/v1/inference/{job.id}"
    return events.Links(self=path, stream=f"{path}/stream", cancel=path)


def _idempotency_key() -> str:
    key = request.headers.get("Idempotency-Key", "")
    if key and not (key.isascii() and key.isprintable() and len(key) <= 255):
        raise BadRequest("an Idempotency-Key is 1 to 255 printable ASCII characters", param="Idempotency-Key")
    return key

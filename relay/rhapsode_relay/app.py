"""The client port: requests in, streams out. Translates HTTP to calls of `Conductor` and `Readers`, no more."""

from typing import Protocol

import msgspec
from quart import Blueprint, Quart, Response, request

from rhapsode_contract import events, names
from rhapsode_contract.requests import InferenceRequest
from rhapsode_relay import resuming
from rhapsode_relay.answering import (
    accepts_stream,
    adopt_correlation,
    bare_app,
    decode_body,
    event_stream,
    job_headers,
    json_answer,
    read_body,
)
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.errors import ApiError, BadRequest, NotFound
from rhapsode_relay.finding import JobFinder
from rhapsode_relay.gate import guard
from rhapsode_relay.jobs import Job
from rhapsode_relay.keys import KeyFolder
from rhapsode_relay.limiting import limit
from rhapsode_relay.neighbours import Neighbours
from rhapsode_relay.openai.response_routes import response_routes
from rhapsode_relay.openai.routes import openai_routes
from rhapsode_relay.openapi.routes import openapi_routes
from rhapsode_relay.opening import Opener, asked_id, asked_place
from rhapsode_relay.origins import allow_origins, refuse_foreign
from rhapsode_relay.page_routes import page_routes
from rhapsode_relay.reading import Reader, Readers
from rhapsode_relay.serving import client_of
from rhapsode_relay.socket_routes import socket_routes
from rhapsode_relay.taking import Generation, Intake
from rhapsode_relay.ticket_routes import ticket_routes
from rhapsode_relay.uis.formats import asked_format, speak_format
from rhapsode_relay.uis.routes import ui_routes
from rhapsode_relay.worker_routes import worker_routes

_requests = msgspec.json.Decoder(InferenceRequest)


def create_app(
    house: Conductor,
    readers: Readers,
    finder: JobFinder,
    keys: KeyFolder | None,
    neighbours: Neighbours | None = None,
    turns: "TurnRoutes | None" = None,
) -> Quart:
    """Return the application of the client port; `keys` let clients in, without them everyone may come.

    `turns` makes the routes of two-phase turns, where there are contracts.
    """
    app = bare_app("rhapsode-relay", house.counts)
    allow_origins(app, house.settings.origins)
    refuse_foreign(app, house.settings.host, house.settings.origins, has_keys=keys is not None)
    guard(app, keys)
    limit(app, house.settings.key_limits)
    app.register_blueprint(ticket_routes(keys))
    app.register_blueprint(worker_routes(house, readers))
    app.register_blueprint(page_routes())
    app.register_blueprint(openapi_routes())
    desk = Desk(house, readers, neighbours, finder)

    _add_requests(app, desk)
    _add_job_routes(app, desk, house, finder)
    app.register_blueprint(openai_routes(house, desk.intake, desk.opener))
    app.register_blueprint(response_routes(desk, house, finder))
    app.register_blueprint(ui_routes(desk, house, neighbours))
    app.register_blueprint(socket_routes(desk.opener, finder, neighbours))
    app.register_blueprint(turns.routes(desk) if turns is not None else _no_turns())
    return app


class TurnRoutes(Protocol):
    """Where the routes of turns come from, if there are contracts."""

    def routes(self, desk: "Desk") -> Blueprint: ...


def _no_turns() -> Blueprint:
    routes = Blueprint("turns", __name__)

    @routes.post("/v1/turns")
    async def refuse() -> Response:
        message = "this worker has no contracts; its manifest declares them in spec.outcomes"
        raise NotFound(message, code="contract_not_found", param="contract")

    return routes


def _add_requests(app: Quart, desk: "Desk") -> None:
    @app.post("/v1/inference")
    async def infer() -> Response:
        accepted = await desk.accept()
        if isinstance(accepted, Response):
            return accepted
        job, new = accepted
        if accepts_stream():
            return await desk.stream(job)
        return desk.acknowledge(job, new=new)

    @app.post("/execute")
    async def execute() -> Response:
        accepted = await desk.accept()
        return accepted if isinstance(accepted, Response) else await desk.stream(accepted[0])


def _add_job_routes(app: Quart, desk: "Desk", house: Conductor, finder: JobFinder) -> None:
    @app.get("/v1/inference/<job_id>/stream")
    async def stream(job_id: str) -> Response:
        asked_format()
        if passage := await desk.elsewhere(job_id, "stream"):
            return passage
        return await desk.stream(await finder.find(job_id, request.headers.get("Last-Event-ID")))

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
        if not (job.over or job.may_cancel):
            message = "the turn is being written; what has been written cannot be taken back"
            raise ApiError(409, "turn_writing", message)
        house.cancel(job, "client")
        return desk.describe(job)

    @app.get("/v1/correlations/<wanted>/stream")
    async def correlate(wanted: str) -> Response:
        return desk.stream_correlation(wanted)


class Desk:
    """What the routes have in common."""

    def __init__(self, house: Conductor, readers: Readers, neighbours: Neighbours | None, finder: JobFinder) -> None:
        self._house = house
        self._readers = readers
        self._neighbours = neighbours
        self.opener = Opener(house, readers)
        self.intake = Intake(house, neighbours, finder)

    async def accept(self) -> tuple[Job, bool] | Response:
        """Accept the request in this body; see `Intake.take`."""
        asked_format()
        body = await read_body()
        return await self.intake.take(Generation(self._house, decode_body(_requests, body)), body)

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
        return json_answer(body, 202, {"Location": links.self} | job_headers(job.id, new=new))

    async def stream(self, job: Job) -> Response:
        """Answer with the job's stream, from where this client was, or from its start in another protocol."""
        if (name := asked_format()) != "native":
            return await speak_format(self.opener, job, name)
        adopt_correlation(job.terms.correlation_id)
        opened = self.opener.open(job, client_of(request.scope), asked_place())
        if opened is None:
            return Response(b"", 204)
        reader, how = opened
        link = f'<{_links(job).stream}>; rel="events"'
        return event_stream(reader, {"X-Job-Id": job.id, "X-Replay": how, "Link": link})

    def stream_correlation(self, wanted: str) -> Response:
        """Answer with every job of a correlation id, those to come included."""
        if not names.CORRELATION_ID.fullmatch(wanted):
            raise BadRequest("a correlation id is 1 to 64 of letters, digits, '.', '_' and '-'", param="id")
        hop = self._neighbours.hop() if self._neighbours is not None else ""
        reader = self._reader(resuming.parse_channels(request.args.get("channels")))
        cursor_id = asked_id()
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


def _links(job: Job) -> events.Links:
    path = f"/v1/inference/{job.id}"
    return events.Links(self=path, stream=f"{path}/stream", cancel=path)

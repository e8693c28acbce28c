"""`/v1/worker` and its stream, which both ports have: clients watch the worker, and so does the operator."""

from quart import Blueprint, Response, request

from rhapsode_contract.events import EventId
from rhapsode_relay import resuming
from rhapsode_relay.answering import event_stream, json_answer
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.reading import Reader, Readers
from rhapsode_relay.serving import client_of


def worker_routes(house: Conductor, readers: Readers) -> Blueprint:
    """Return the routes that tell how the worker is."""
    routes = Blueprint("worker", __name__)
    worker = house.worker

    @routes.get("/v1/worker")
    async def show() -> Response:
        return json_answer(worker.snapshot(house.line.running, house.line.waiting))

    @routes.get("/v1/worker/stream")
    async def stream() -> Response:
        """Begin with how the worker is; then what it told since the cursor, or all that is kept; then live."""
        cursor = EventId.parse(request.headers.get("Last-Event-ID", ""))
        after = resuming.parse_after(request.args.get("after"))
        if cursor is not None:
            after = cursor.seq if cursor.epoch == house.epoch else None
        reader = Reader(readers, resuming.parse_channels(request.args.get("channels")), client_of(request.scope))
        start = worker.journal.seek(after) if after is not None else None
        opening = worker.snapshot(house.line.running, house.line.waiting)
        start = start or worker.journal.start()
        opening.seq = start.seq
        reader.follow(worker.journal, start, worker.journal.encoder.event(opening))
        return event_stream(reader)

    return routes

"""The admin port: what kubelet, operator and Prometheus ask of a pod. It needs no key and serves no client data.

Its readers are health, readiness and metrics; its writers are the operator, who narrates what only it can see
and asks for a drain, and the kubelet's preStop hook.
"""

import asyncio
import time
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from quart import Quart, Response

from rhapsode_contract import frames, names
from rhapsode_relay.answering import bare_app, decode_body, json_answer, read_body
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.errors import ApiError, BadRequest
from rhapsode_relay.listening import NOTES_PER_S, Room
from rhapsode_relay.origins import refuse_foreign
from rhapsode_relay.terms import Budget
from rhapsode_relay.worker_routes import worker_routes

HOOK_S = 50.0
"""Longest answer to a preStop hook: the kubelet gives up on one after a minute."""
_STEP_S = 0.02
_notes = msgspec.json.Decoder(frames.Note)


def create_admin(house: Conductor, room: Room, registry: CollectorRegistry) -> Quart:
    """Return the application of the admin port."""
    app = bare_app("rhapsode-admin", house.counts)
    refuse_foreign(app, house.settings.host)
    app.register_blueprint(worker_routes(house, room.readers))
    _add_probes(app, house)
    _add_drains(app, house)
    desk = _NoteDesk(room)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    @app.post("/v1/narration")
    async def narrate() -> Response:
        desk.take(await read_body())
        return Response(b"", 204)

    return app


def _add_probes(app: Quart, house: Conductor) -> None:
    worker = house.worker

    @app.get("/healthz")
    async def healthz() -> Response:
        return json_answer({"status": "ok"})

    @app.get("/healthz/worker")
    async def worker_healthz() -> Response:
        """For the worker container's startup and liveness probes; `WorkerState.is_alive` says what they hear."""
        return json_answer({"status": worker.phase}, 200 if worker.is_alive(time.monotonic()) else 503)

    @app.get("/readyz")
    async def readyz() -> Response:
        ready = worker.ready and not house.draining
        phase = "draining" if house.draining else worker.phase
        return json_answer({"status": phase}, 200 if ready else 503)


def _add_drains(app: Quart, house: Conductor) -> None:
    @app.post("/v1/drain")
    async def drain() -> Response:
        """Begin to drain, for good. The process stays: whoever asked ends the pod when nothing runs any more."""
        house.drain_worker(for_good=True)
        return json_answer(_how_drained(house))

    @app.get("/prestop")
    async def prestop() -> Response:
        """Drain the worker whose container is about to be stopped, and hold its SIGTERM back until it is idle."""
        house.drain_worker(for_good=False)
        deadline = time.monotonic() + min(house.settings.drain_s, HOOK_S)
        while house.draining and house.unfinished() and time.monotonic() < deadline:
            await asyncio.sleep(_STEP_S)
        return json_answer(_how_drained(house))


def _how_drained(house: Conductor) -> dict[str, Any]:
    since, queued = house.draining_since, house.line.waiting
    return {
        "draining": since is not None,
        "running": house.unfinished() - queued,
        "queued": queued,
        "for_s": 0.0 if since is None else round(time.monotonic() - since, 3),
    }


class _NoteDesk:
    """Where the operator narrates: what it says is told as if it came over the worker socket."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._budget = Budget(NOTES_PER_S, time.monotonic())

    def take(self, body: bytes) -> None:
        """Tell a note. Raises ApiError for one that cannot be read, or that comes too soon."""
        note = _read_note(body)
        if not self._budget.take(time.monotonic()):
            self._room.notes_dropped += 1
            message = f"{NOTES_PER_S:.0f} narrations a second are told here"
            raise ApiError(429, "too_many_narrations", message, retryable=True, retry_after_s=1)
        self._room.hearing.note(note)


def _read_note(body: bytes) -> frames.Note:
    if len(body) > names.MAX_FRAME_BYTES:
        raise ApiError(413, "body_too_large", f"a narration may take {names.MAX_FRAME_BYTES} bytes")
    note = decode_body(_notes, body)
    if note.type not in ("narration", "data"):
        raise BadRequest("type: expected 'narration' or 'data'; here you may only narrate", param="type")
    if not note.human and note.payload is None:
        raise BadRequest("human: say something, or give a payload", param="human")
    return note

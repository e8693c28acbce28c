"""`/v1/inference/{id}/ws`: the events of a job as WebSocket messages. Called by `app`.

Whether a client may come in is told by HTTP. Once it may, everything is told by a close code: a browser hides any
other answer to a handshake from its page.
"""

import asyncio
from typing import Any

from quart import Blueprint, Response, request

from rhapsode_relay.answering import adopt_correlation, correlation_id, entrust
from rhapsode_relay.errors import ApiError
from rhapsode_relay.finding import JobFinder
from rhapsode_relay.jobs import Job
from rhapsode_relay.neighbours import Neighbours
from rhapsode_relay.opening import Opener, asked_id, asked_place
from rhapsode_relay.reading import Ending, Reader
from rhapsode_relay.reframing import follow_elsewhere
from rhapsode_relay.serving import client_of
from rhapsode_relay.upgrading import COME_BACK, DONE, GOING_AWAY, Socket, parting, shake_hands

_PARTINGS: dict[Ending, tuple[int, str]] = {
    "done": (DONE, "done"),
    "dismissed": (GOING_AWAY, "the relay ends; come back with your last id"),
    "behind": (COME_BACK, "too far behind; come back with your last id for a snapshot"),
}


def socket_routes(opener: Opener, finder: JobFinder, neighbours: Neighbours | None) -> Blueprint:
    """Return the route of WebSockets."""
    routes = Blueprint("sockets", __name__)

    @routes.get("/v1/inference/<job_id>/ws")
    async def follow(job_id: str) -> Response:
        socket = Socket(client_of(request.scope), shake_hands(request.scope))
        try:
            owner = neighbours.forwarder.owner_of(job_id) if neighbours is not None else None
            if neighbours is not None and owner is not None:
                return await follow_elsewhere(socket, neighbours, owner, job_id)
            job = await finder.find(job_id, asked_id())
            return _follow_here(socket, opener, job)
        except ApiError as error:
            opener.counts.refuse(error.code)
            return entrust(_Farewell(socket, *parting(error)))

    return routes


def _follow_here(socket: Socket, opener: Opener, job: Job) -> Response:
    adopt_correlation(job.terms.correlation_id)
    opened = opener.open(job, socket, asked_place())
    if opened is None:
        return entrust(_Farewell(socket, DONE, "you have everything"))
    reader, how = opened
    socket.client.reader = reader

    def move(last_event_id: str) -> None:
        if not opener.move(reader, last_event_id):
            socket.close(DONE, "you have everything")

    socket.on_place = move
    return entrust(_Following(socket, reader, {"X-Job-Id": job.id, "X-Replay": how}))


class _Following:
    """The stream of a reader, over a WebSocket."""

    def __init__(self, socket: Socket, reader: Reader, headers: dict[str, str]) -> None:
        self._socket = socket
        self._reader = reader
        self._headers = {"X-Correlation-Id": correlation_id()} | headers

    async def serve(self, send: Any) -> None:  # noqa: ARG002
        self._socket.accept(self._headers)
        self._socket.close(*_PARTINGS[await self._reader.serve()])
        await asyncio.Event().wait()  # until the connection is gone, which cancels this

    def leave(self) -> None:
        self._socket.forget()


class _Farewell:
    """A WebSocket that is closed as soon as it is open."""

    def __init__(self, socket: Socket, code: int, reason: str) -> None:
        self._socket = socket
        self._parting = code, reason
        self._headers = {"X-Correlation-Id": correlation_id()}

    async def serve(self, send: Any) -> None:  # noqa: ARG002
        self._socket.accept(self._headers)
        self._socket.close(*self._parting)
        await asyncio.Event().wait()

    def leave(self) -> None:
        self._socket.forget()

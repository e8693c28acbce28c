"""Follow a job of another replica for a WebSocket. Called by `socket_routes`.

The owner is asked for SSE, as for any client, and its bytes are framed anew: one way between replicas, and the
client sees the same messages at whatever replica it is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
from quart import Response, copy_current_request_context

from rhapsode_contract import events
from rhapsode_relay.answering import correlation_id
from rhapsode_relay.calling import Answer, Broken, Call
from rhapsode_relay.errors import ApiError
from rhapsode_relay.forwarding import this_request
from rhapsode_relay.framing import Framer
from rhapsode_relay.neighbours import Neighbours
from rhapsode_relay.passing import Passage, Passages
from rhapsode_relay.upgrading import DONE, GOING_AWAY, Socket, parting

_KIND = "stream"
_MAX_ERROR_BYTES = 16 * 1024
_COME_BACK = "come back with your last id"
Ask = Callable[[str], Awaitable[Answer]]
_errors = msgspec.json.Decoder(events.ErrorResponse)


async def follow_elsewhere(socket: Socket, neighbours: Neighbours, owner: str, job_id: str) -> Response:
    """Answer with the job's stream, which its owner tells. Raises ApiError."""
    call = _plain(this_request(), job_id)

    @copy_current_request_context
    async def ask(last_event_id: str) -> Answer:
        asked = _from(call, last_event_id) if last_event_id else call
        return await _checked(await neighbours.forwarder.reach(owner, _KIND, job_id, asked))

    answer = await ask("")
    headers = {"X-Job-Id": job_id, "X-Correlation-Id": correlation_id()}
    return neighbours.passages.hold(Reframed(neighbours.passages, socket, answer, ask, headers))


class Reframed(Passage):
    """Another replica's stream on its way to a WebSocket."""

    def __init__(self, passages: Passages, socket: Socket, answer: Answer, ask: Ask, headers: dict[str, str]) -> None:
        super().__init__(passages, socket, answer, _KIND)
        self._socket = socket
        self._ask = ask
        self._headers = headers
        self._place = ""
        """Where the client said it is, as long as the owner was not asked for that."""
        socket.on_place = self._move

    async def serve(self, send: Any) -> None:
        await super().serve(send)
        await asyncio.Event().wait()  # until the connection is gone, which cancels this

    def leave(self) -> None:
        super().leave()
        self._socket.forget()

    def _move(self, last_event_id: str) -> None:
        self._place = last_event_id
        self._answer.close()

    async def _copy(self, send: Any) -> None:  # noqa: ARG002
        self._socket.accept(self._headers)
        try:
            while not await self._copy_until_moved():
                place, self._place = self._place, ""
                self._socket.framer = Framer()
                self._answer = await self._ask(place)
        except ApiError as error:
            self._socket.close(*parting(error))
            return
        if self._answer.status == 204 or self._socket.framer.last == b"done":
            self._socket.close(DONE, "done")
        else:
            self._socket.close(GOING_AWAY, _COME_BACK)

    async def _copy_until_moved(self) -> bool:
        """Return whether the stream came to its end. Raises Broken; TimeoutError for a client that takes nothing."""
        try:
            async for chunk in self._answer.chunks():
                self._socket.write(chunk)
                async with asyncio.timeout(self._passages.stall_s):
                    await self._socket.drain()
        except Broken:
            if not self._place:
                raise
        return not self._place


def _plain(call: Call, job_id: str) -> Call:
    """Return the same question for SSE."""
    headers = [(name, value) for name, value in call.headers if not name.startswith(b"sec-websocket")]
    return replace(call, path=f"/v1/inference/{job_id}/stream", headers=headers)


def _from(call: Call, last_event_id: str) -> Call:
    headers = [(name, value) for name, value in call.headers if name != b"last-event-id"]
    no_id = not (
        last_event_id.isascii() and last_event_id.isprintable()
    )  # such as a line that a header must not have
    return replace(call, headers=[*headers, (b"last-event-id", b"?" if no_id else last_event_id.encode())])


async def _checked(answer: Answer) -> Answer:
    """Return an answer that is a stream, or the word that there is nothing more. Raises ApiError for any other."""
    if answer.status in (200, 204):
        return answer
    try:
        said = _errors.decode(await answer.whole(_MAX_ERROR_BYTES))
    except (Broken, msgspec.DecodeError) as exc:
        raise ApiError(502, "owner_unreachable", "the job's owner answered with nothing readable") from exc
    finally:
        answer.close()
    error = said.error
    raise ApiError(answer.status, error.code, error.message, retryable=said.retryable)

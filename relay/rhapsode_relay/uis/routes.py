"""The routes of UI protocols: what AG-UI's `HttpAgent` and Vercel's `useChat` call. Called by `app`."""

from typing import Protocol

import msgspec
from quart import Blueprint, Response, request
from werkzeug.routing import BaseConverter

from rhapsode_contract.agui import RunAgentInput
from rhapsode_contract.requests import InferenceRequest
from rhapsode_contract.vercel import ChatRequest
from rhapsode_contract.wishes import Wishes
from rhapsode_relay.answering import choose_correlation, decode_body, read_body
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.dialects import Dialect
from rhapsode_relay.dialects.translating import speak
from rhapsode_relay.errors import Unavailable
from rhapsode_relay.forwarding import RETRY_S
from rhapsode_relay.jobs import Job
from rhapsode_relay.journal import EVERYTHING, NARRATION
from rhapsode_relay.neighbours import Neighbours
from rhapsode_relay.opening import Opener, Place
from rhapsode_relay.taking import Generation, Intake
from rhapsode_relay.uis.agui import AguiDialect
from rhapsode_relay.uis.asking import ask_chat, ask_run
from rhapsode_relay.uis.chats import Chats, correlation_of
from rhapsode_relay.uis.vercel import VercelDialect

_runs = msgspec.json.Decoder(RunAgentInput)
_chats = msgspec.json.Decoder(ChatRequest)


class Desk(Protocol):
    """How jobs begin, and how they are read."""

    intake: Intake
    opener: Opener


def ui_routes(desk: Desk, house: Conductor, neighbours: Neighbours | None) -> Blueprint:
    """Return the routes of UI protocols."""
    routes = Blueprint("uis", __name__)
    counter = Counter(desk, house, Chats(house, neighbours), neighbours)
    routes.post("/v1/agui")(counter.run_agent)
    routes.post("/v1/vercel/chat")(counter.chat)
    routes.record_once(lambda state: state.app.url_map.converters.update(any_text=AnyText))
    routes.get("/v1/vercel/chat/<any_text:chat_id>/stream", merge_slashes=False)(counter.resume)
    routes.delete("/v1/vercel/chat/<any_text:chat_id>", merge_slashes=False)(counter.stop)
    return routes


class AnyText(BaseConverter):
    """A part of a path that may hold anything, as the ids of chats may."""

    part_isolating = False
    regex = "(?s:.+?)"


class Counter:
    """Where the clients of UI protocols come."""

    def __init__(self, desk: Desk, house: Conductor, chats: Chats, neighbours: Neighbours | None) -> None:
        self._desk = desk
        self._house = house
        self._chats = chats
        self._neighbours = neighbours

    async def run_agent(self) -> Response:
        """Answer with a run of an agent, whose thread is the job's correlation id."""
        body = await read_body()
        wanted = decode_body(_runs, body)
        asked = ask_run(wanted, self._house.worker.caps.context_tokens)
        choose_correlation(correlation_of(wanted.thread_id))
        taken = await self._take(asked, body)
        if isinstance(taken, Response):
            return taken
        told = AguiDialect(taken.id, wanted.thread_id, wanted.run_id)
        return await self._speak(taken, told, wanted.forwarded_props)

    async def chat(self) -> Response:
        """Answer with the next message of a chat, which is the job's correlation id."""
        body = await read_body()
        wanted = decode_body(_chats, body)
        asked = ask_chat(wanted, self._house.worker.caps.context_tokens)
        chat = correlation_of(wanted.id)
        choose_correlation(chat)
        self._chats.drop_left(chat, request.headers.get("Idempotency-Key", "-"))
        taken = await self._take(asked, body)
        if isinstance(taken, Response):
            return taken
        return await self._speak(taken, VercelDialect(taken.id, _continued(wanted)), wanted)

    async def resume(self, chat_id: str) -> Response:
        """Answer with all of the message that a chat is getting; 204 if it gets none."""
        chat = correlation_of(chat_id)
        if job := self._chats.newest(chat):
            return await speak(self._desk.opener, job, VercelDialect(job.id))
        word = await self._chats.ask_others(f"/v1/vercel/chat/{chat}/stream")
        if word.answer is None or self._neighbours is None:
            return Response(b"", 204)  # a replica that says nothing has nothing that could be read now
        return self._neighbours.passages.begin(word.answer, "chat")

    async def stop(self, chat_id: str) -> Response:
        """Stop the message that a chat is getting, wherever it is made. Twice is as good as once."""
        chat = correlation_of(chat_id)
        self._chats.stop(chat)
        word = await self._chats.ask_others(f"/v1/vercel/chat/{chat}")
        if word.silent:
            message = "another replica, which may make this chat's message, cannot be reached now; ask again"
            raise Unavailable(message, code="owner_unreachable", retry_after_s=RETRY_S)
        return Response(b"", 204)

    async def _take(self, asked: InferenceRequest, body: bytes) -> Job | Response:
        taken = await self._desk.intake.take(Generation(self._house, asked), body)
        return taken if isinstance(taken, Response) else taken[0]

    async def _speak(self, job: Job, dialect: Dialect, wishes: Wishes | None) -> Response:
        silent = wishes is not None and wishes.narration is False
        place = Place(EVERYTHING & ~NARRATION if silent else EVERYTHING, last_event_id=None, after=None)
        return await speak(self._desk.opener, job, dialect, place=place)


def _continued(wanted: ChatRequest) -> str:
    """Return the id of the message that its client goes on with, if it is one that was generated."""
    last = wanted.messages[-1]
    return last.id if last.role == "assistant" and wanted.trigger == "submit-message" else ""

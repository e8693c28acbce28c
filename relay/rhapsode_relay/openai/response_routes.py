"""`/v1/responses`: OpenAI's Responses API, with its background mode and streams that are read again."""

import time
from typing import Protocol

import msgspec
from quart import Blueprint, Response, request

from rhapsode_contract.openai_responses import ResponseRequest
from rhapsode_relay.answering import adopt_correlation, decode_body, json_answer, read_body
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.dialects.splitting import split_events
from rhapsode_relay.dialects.translating import speak
from rhapsode_relay.errors import ApiError, BadRequest, NotFound
from rhapsode_relay.finding import JobFinder
from rhapsode_relay.jobs import Job
from rhapsode_relay.journal import ALWAYS
from rhapsode_relay.openai.ordering import Taken, take, whole_of, within
from rhapsode_relay.openai.response_asking import ask_response, note_of
from rhapsode_relay.openai.response_calls import events_of
from rhapsode_relay.openai.response_states import PREFIX, Note, ResponseState, named_here, read_note
from rhapsode_relay.openai.tool_asking import offer_of_response
from rhapsode_relay.opening import Opener
from rhapsode_relay.resuming import read_cursor
from rhapsode_relay.taking import Generation, Intake

_requests = msgspec.json.Decoder(ResponseRequest)


class Desk(Protocol):
    """How jobs are taken, read and found at other replicas."""

    intake: Intake
    opener: Opener

    async def elsewhere(self, job_id: str, kind: str) -> Response | None: ...


def response_routes(desk: Desk, house: Conductor, finder: JobFinder) -> Blueprint:
    """Return the routes of responses."""
    routes = Blueprint("responses", __name__)
    counter = Counter(desk, house, finder)

    @routes.post("/v1/responses")
    async def create() -> Response:
        return await counter.create(decode_body(_requests, await read_body()))

    @routes.get("/v1/responses/<response_id>")
    async def show(response_id: str) -> Response:
        job_id = _job_in(response_id)
        streams, after = _wants_stream(), _asked_after()
        if passage := await desk.elsewhere(job_id, "stream" if streams else "snapshot"):
            return passage
        job, note = await counter.find(job_id)
        if streams:
            return await counter.stream(job, note, after=after)
        return counter.describe(job, note)

    @routes.post("/v1/responses/<response_id>/cancel")
    async def cancel(response_id: str) -> Response:
        job_id = _job_in(response_id)
        if passage := await desk.elsewhere(job_id, "cancel"):
            return passage
        return counter.cancel(*await counter.find(job_id))

    @routes.delete("/v1/responses/<response_id>")
    async def delete(response_id: str) -> Response:
        _job_in(response_id)
        message = f"a response is kept {house.settings.keep_s:.0f} s after its end, and then forgotten by itself"
        raise BadRequest(message, code="unsupported", param="response_id")

    return routes


class Counter:
    """What the routes have in common."""

    def __init__(self, desk: Desk, house: Conductor, finder: JobFinder) -> None:
        self._desk = desk
        self._house = house
        self._finder = finder

    async def create(self, wanted: ResponseRequest) -> Response:
        """Take a request, and answer with its stream, or with its response. Raises ApiError, in this API's names."""
        calling = offer_of_response(wanted).calling
        try:
            return await self._take(wanted)
        except ApiError as exc:
            exc.param = named_here(exc.param, calling)
            raise

    async def _take(self, wanted: ResponseRequest) -> Response:
        """Take a request; its response is answered at once if it is in the background, else when it is over."""
        asked = ask_response(wanted, self._house.worker.caps.context_tokens)
        waits = not (wanted.stream or wanted.background)
        order = Generation(self._house, asked, within(whole=waits), note_of(wanted, time.time()))
        taken = await take(self._desk.intake, order, await read_body())
        if isinstance(taken, Response):
            return taken
        note = read_note(taken.job.terms)
        assert note is not None
        if wanted.stream:
            return await self.stream(taken.job, note, narrates=wanted.narration == "event", taken=taken)
        if waits:
            await whole_of(self._desk.opener, taken.job)
        return self.describe(taken.job, note, taken)

    async def find(self, job_id: str) -> tuple[Job, Note]:
        """Return a response's job. Raises NotFound, also for a job that was asked for in another protocol."""
        try:
            job = await self._finder.find(job_id)
        except NotFound:
            raise _missing(f"{PREFIX}{job_id}", self._house.settings.keep_s) from None
        note = read_note(job.terms)
        if note is None:
            raise _missing(f"{PREFIX}{job_id}", self._house.settings.keep_s)
        return job, note

    async def stream(
        self, job: Job, note: Note, *, after: int = -1, narrates: bool = False, taken: Taken | None = None
    ) -> Response:
        """Answer with the events after a number. Raises ApiError if the first ones are not kept any more."""
        if not job.whole:
            message = (
                "the beginning of this stream is not kept any more, so its events cannot be numbered as before; "
                f"GET /v1/responses/{PREFIX}{job.id} without 'stream' has the text"
            )
            raise ApiError(410, "replay_window_exceeded", message, param="starting_after")
        dialect = events_of(self._state(job, note), job.journal.text, after=after, narrates=narrates)
        return await speak(self._desk.opener, job, dialect, headers=taken.headers if taken else None)

    def describe(self, job: Job, note: Note, taken: Taken | None = None) -> Response:
        """Answer with the response as it is now."""
        adopt_correlation(job.terms.correlation_id)
        state = self._state(job, note)
        if job.status == "running":
            state.status = "in_progress"  # also for one whose beginning this relay did not see
        cursor = job.journal.start()
        while chunk := job.journal.read(cursor, ALWAYS):
            for event in split_events(chunk):
                if event is not None:
                    state.hear(event)
        headers = taken.headers if taken else {"X-Job-Id": job.id}
        return json_answer(state.show(job.journal.text()), headers=headers)

    def cancel(self, job: Job, note: Note) -> Response:
        """Stop a response that runs by itself, and answer with how it is then, however often."""
        if not note.background:
            message = "only a response with background: true is cancelled so; for this one, close the connection"
            raise BadRequest(message, code="not_in_background", param="response_id")
        self._house.cancel(job, "client")
        return self.describe(job, note)

    def _state(self, job: Job, note: Note) -> ResponseState:
        return ResponseState(job.id, self._house.settings.model, note)


def _missing(response_id: str, keep_s: float) -> NotFound:
    message = f"there is no response {response_id[:100]!r}; finished ones are kept for {keep_s:.0f} s"
    return NotFound(message, code="response_not_found", param="response_id")


def _job_in(response_id: str) -> str:
    """Return the job that a response's id names. Raises NotFound."""
    if not response_id.startswith(PREFIX):
        message = f"there is no response {response_id[:100]!r}: an id begins with {PREFIX}"
        raise NotFound(message, code="response_not_found", param="response_id")
    return response_id.removeprefix(PREFIX)


def _wants_stream() -> bool:
    """Return whether the query says so. Raises BadRequest."""
    word = request.args.get("stream", "false").lower()
    if word not in ("true", "false", "1", "0"):
        raise BadRequest(f"'stream' is true or false, got {word[:40]!r}", param="stream")
    return word in ("true", "1")


def _asked_after() -> int:
    """Return the number of the last event that the client has; -1 for none. Raises BadRequest."""
    text = request.args.get("starting_after")
    return -1 if text is None else read_cursor("starting_after", text, "sequence_number")

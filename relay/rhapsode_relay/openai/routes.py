"""`POST /v1/chat/completions`, `POST /v1/completions` and `GET /v1/models`, as OpenAI's clients know them."""

from dataclasses import replace

import msgspec
from quart import Blueprint, Response, request

from rhapsode_contract import events, openai
from rhapsode_contract.requests import InferenceRequest
from rhapsode_relay.answering import decode_body, json_answer, read_body
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.dialects.translating import speak
from rhapsode_relay.errors import ApiError, NotFound, unsupported
from rhapsode_relay.jobs import Job
from rhapsode_relay.openai.asking import ask_chat, ask_text, wants_logprobs
from rhapsode_relay.openai.chunking import CHAT, TEXT, Chunks, Shape, Wishes
from rhapsode_relay.openai.completing import whole_chat, whole_text
from rhapsode_relay.openai.narrating import style_of
from rhapsode_relay.openai.ordering import HOLD_S, take, whole_of, within
from rhapsode_relay.openai.probabilities import Gathering, ProbableChunks, in_chat, in_text
from rhapsode_relay.openai.refusing import in_openai_names
from rhapsode_relay.openai.telling_calls import CallingChunks, tool_call
from rhapsode_relay.openai.tool_asking import offer_of
from rhapsode_relay.openai.tool_calls import NEVER, Calling, read_whole
from rhapsode_relay.opening import Opener
from rhapsode_relay.taking import Generation, Intake

_chats = msgspec.json.Decoder(openai.ChatRequest)
_texts = msgspec.json.Decoder(openai.CompletionRequest)


def openai_routes(house: Conductor, intake: Intake, opener: Opener) -> Blueprint:
    """Return the routes of chats, texts and models."""
    routes = Blueprint("openai", __name__)
    answers = _Answers(house, intake, opener)
    model = house.settings.model

    @routes.post("/v1/chat/completions")
    async def chat() -> Response:
        body = await read_body()
        wanted = decode_body(_chats, body)
        asked = ask_chat(wanted, house.worker.caps.context_tokens)
        wishes = replace(_wishes(wanted), calling=offer_of(wanted).calling)
        try:
            return await answers.give(CHAT, asked, wishes, body)
        except ApiError as exc:
            if wishes.calling.way == "whole" and exc.param == "response_format":
                exc.param, exc.message = "tool_choice", f"a tool can be forced by a schema only: {exc.message}"
            raise

    @routes.post("/v1/completions")
    async def text() -> Response:
        body = await read_body()
        wanted = decode_body(_texts, body)
        return await answers.give(TEXT, ask_text(wanted), _wishes_for_text(wanted), body)

    @routes.get("/v1/models")
    async def models() -> Response:
        return json_answer(openai.Models(data=[openai.Model(id=model)]))

    @routes.get("/v1/models/<path:wanted>")
    async def one_model(wanted: str) -> Response:
        if wanted != model:
            message = f"model {wanted[:200]!r} is not served here; this worker serves {model!r}"
            raise NotFound(message, code="model_not_found", param="model")
        return json_answer(openai.Model(id=model))

    return routes


class _Answers:
    """Begins jobs, and answers with them."""

    def __init__(self, house: Conductor, intake: Intake, opener: Opener) -> None:
        self._house = house
        self._intake = intake
        self._opener = opener
        self._model = house.settings.model

    async def give(self, shape: Shape, asked: InferenceRequest, wishes: Wishes, body: bytes) -> Response:
        """Answer with a stream, or with the whole. Raises ApiError, which names OpenAI's fields."""
        try:
            return await self._give(shape, asked, wishes, body)
        except ApiError as exc:
            exc.param = in_openai_names(exc.param)
            raise

    async def _give(self, shape: Shape, asked: InferenceRequest, wishes: Wishes, body: bytes) -> Response:
        taken = await take(self._intake, Generation(self._house, asked, within(whole=not wishes.stream)), body)
        if isinstance(taken, Response):
            return taken
        if wishes.stream:
            return await self._stream(shape, taken.job, wishes, taken.headers)
        if wishes.logprobs:
            return await self._probable(shape, taken.job, taken.headers)
        end = await whole_of(self._opener, taken.job)
        return json_answer(self._whole(shape, taken.job, end, wishes.calling), headers=taken.headers)

    async def _probable(self, shape: Shape, job: Job, headers: dict[str, str]) -> Response:
        """Answer with the whole, and how probable its tokens were. Raises ApiError if that is not known any more."""
        heard = Gathering()
        end = await whole_of(self._opener, job, heard.hear)
        if not heard.is_whole:
            message = "how probable the first tokens were is not known any more; the text is there, by the job's id"
            raise ApiError(410, "replay_window_exceeded", message, param="logprobs")
        about = (shape.prefix + job.id, job.created, self._model, job.journal.text(), end)
        if shape is TEXT:
            return json_answer(whole_text(*about, in_text(heard.tokens)), headers=headers)
        return json_answer(whole_chat(*about, (), in_chat(heard.tokens)), headers=headers)

    def _whole(
        self, shape: Shape, job: Job, end: events.End, calling: Calling
    ) -> openai.ChatCompletion | openai.Completion:
        answer_id, created, text = shape.prefix + job.id, job.created, job.journal.text()
        if shape is TEXT:
            return whole_text(answer_id, created, self._model, text, end)
        content, found = read_whole(calling, text)
        calls = [tool_call(job.id, at, call) for at, call in enumerate(found)]
        return whole_chat(answer_id, created, self._model, content, end, calls)

    async def _stream(self, shape: Shape, job: Job, wishes: Wishes, headers: dict[str, str]) -> Response:
        """Answer with chunks, once there is one to send, or with the reason why there is none."""
        about = (job.id, job.created, self._model, wishes)
        if wishes.calling != NEVER:
            chunks: Chunks = CallingChunks(*about)
        else:
            chunks = (ProbableChunks if wishes.logprobs else Chunks)(shape, *about)
        return await speak(self._opener, job, chunks, hold_s=HOLD_S, headers=headers)


def _wishes(wanted: openai.ChatRequest | openai.CompletionRequest) -> Wishes:
    usage = wanted.stream_options is not None and bool(wanted.stream_options.include_usage)
    style = style_of(wanted.narration, request.headers)
    return Wishes(stream=bool(wanted.stream), style=style, usage=usage, logprobs=wants_logprobs(wanted))


def _wishes_for_text(wanted: openai.CompletionRequest) -> Wishes:
    wishes = _wishes(wanted)
    if wishes.style == "reasoning":
        raise unsupported("narration", "a text has no reasoning beside it; take 'chunk', 'openwebui' or 'comment'")
    return wishes

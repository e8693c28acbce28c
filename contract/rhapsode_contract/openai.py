"""What OpenAI's chat and completions endpoints take and answer. Fields that are not named are ignored.

A field of type `Any` is one that we cannot serve: it is named so that it is refused when it asks for something.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from rhapsode_contract.frames import Level
from rhapsode_contract.openai_tools import CallDelta, ChatTool, NamedTool
from rhapsode_contract.requests import Penalty, Stop
from rhapsode_contract.results import Usage
from rhapsode_contract.tools import MAX_TOOLS, CallId, ToolCall

NarrationStyle = Literal["off", "chunk", "openwebui", "reasoning", "comment"]
"""How narration comes in a stream of this protocol; `off` unless the client asks."""
FinishReason = Literal["stop", "length", "tool_calls"]
MaxTokens = Annotated[int, Meta(ge=1, le=1_048_576)]


class ContentPart(Struct, kw_only=True):
    """A part of a message; text is all that a model of text takes."""

    type: str
    text: str = ""


class Message(Struct, kw_only=True):
    """One message of a conversation; `developer` is OpenAI's newer word for `system`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=MAX_TOOLS)] | None = None
    tool_call_id: CallId | None = None
    name: Annotated[str, Meta(max_length=256)] | None = None


class StreamOptions(Struct, kw_only=True):
    """What a stream tells beside the text."""

    include_usage: bool | None = None


class JsonSchema(Struct, kw_only=True):
    """A schema by OpenAI's name for it."""

    name: str = ""
    schema: dict[str, Any] | None = None


class ResponseFormat(Struct, kw_only=True):
    """What the answer must keep to."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class _Sampling(Struct, kw_only=True):
    """What both endpoints take."""

    model: str | None = None
    max_tokens: MaxTokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    narration: NarrationStyle | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    n: Any = None
    logit_bias: Any = None


class ChatRequest(_Sampling, kw_only=True):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=1024)]
    max_completion_tokens: MaxTokens | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Any = None
    tools: Annotated[list[ChatTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None
    web_search_options: Any = None


class CompletionRequest(_Sampling, kw_only=True):
    """Body of `POST /v1/completions`. A list of one prompt is one prompt."""

    prompt: str | list[Any]
    logprobs: bool | int | None = None
    best_of: Any = None
    echo: Any = None
    suffix: Any = None


class Narrated(Struct, kw_only=True, omit_defaults=True):
    """A narration as a chunk carries it. `dropped` counts those that were left out before it."""

    actor: str
    action: str
    human: str
    level: Level
    progress: float | None = None
    fields: dict[str, Any] = {}
    dropped: int = 0


class AnswerMessage(Struct, kw_only=True):
    """The message that was generated; one that only calls tools has no content."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCall] | UnsetType = UNSET


class TokenLogprob(Struct, kw_only=True):
    """How probable a token was; where only several make a text together, it is the last one's."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[Any] = []


class ChatLogprobs(Struct, kw_only=True):
    """The tokens of a conversation's answer."""

    content: list[TokenLogprob]
    refusal: None = None


class TextLogprobs(Struct, kw_only=True):
    """The tokens of a text, and where in it each begins, counted in code points."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: None = None
    text_offset: list[int]


class ChatChoice(Struct, kw_only=True):
    """The one answer of a conversation."""

    index: int = 0
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason


class ChatCompletion(Struct, kw_only=True):
    """Answer of `POST /v1/chat/completions` without a stream."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class TextChoice(Struct, kw_only=True):
    """The one text that goes on from a prompt."""

    text: str
    index: int = 0
    logprobs: TextLogprobs | None = None
    finish_reason: FinishReason


class Completion(Struct, kw_only=True):
    """Answer of `POST /v1/completions` without a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage


class Delta(Struct, kw_only=True, omit_defaults=True):
    """What is new in a chunk of a conversation."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallDelta] | None = None


class ChatChunkChoice(Struct, kw_only=True):
    """What is new of the one answer."""

    index: int = 0
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class TextChunkChoice(Struct, kw_only=True):
    """What is new of the one text."""

    text: str
    index: int = 0
    logprobs: TextLogprobs | None = None
    finish_reason: FinishReason | None = None


class StatusData(Struct, kw_only=True):
    """A line above an answer in Open WebUI."""

    description: str
    done: bool
    hidden: bool = False


class StatusEvent(Struct, kw_only=True):
    """What Open WebUI's backend passes on to its page, if a chunk has it as `event`."""

    type: Literal["status"] = "status"
    data: StatusData


class ChatChunk(Struct, kw_only=True, omit_defaults=True):
    """One event of a streamed conversation; the last one before `[DONE]` may have usage and no choice."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    narration: Narrated | None = None
    event: StatusEvent | None = None


class CompletionChunk(Struct, kw_only=True, omit_defaults=True):
    """One event of a streamed text."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChunkChoice]
    usage: Usage | None = None
    narration: Narrated | None = None
    event: StatusEvent | None = None


class PlainError(Struct, kw_only=True):
    """What went wrong, with OpenAI's four fields and no more."""

    message: str
    type: str
    code: str | None = None
    param: str | None = None


class StreamError(Struct, kw_only=True):
    """What a stream says last, before `[DONE]`, if the answer failed after its beginning."""

    error: PlainError


class Model(Struct, kw_only=True):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "rhapsode"


class Models(Struct, kw_only=True):
    """Answer of `GET /v1/models`: the one model of this worker."""

    object: Literal["list"] = "list"
    data: list[Model]

"""What OpenAI's Responses API takes and answers, with OpenAI's names. Fields that are not named here are ignored.

A field of type `Any` in the request is one that we cannot serve: see `openai`.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from rhapsode_contract.openai import ContentPart, MaxTokens, Narrated
from rhapsode_contract.openai_tools import FunctionCallItem, NamedFunction, ResponseTool
from rhapsode_contract.requests import Stop
from rhapsode_contract.tools import MAX_TOOLS, CallId, ToolName

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
ErrorCode = Literal["server_error", "invalid_prompt"]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


# What is asked


class InputItem(Struct, kw_only=True):
    """One item of the input: a message, a call, or the output of one. Answers may be handed back as they came."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[ContentPart] | None = None
    call_id: CallId = ""
    name: ToolName | None = None
    arguments: str = ""
    output: str | list[ContentPart] | None = None


class TextFormat(Struct, kw_only=True):
    """What the answer must keep to."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | UnsetType = UNSET
    schema: dict[str, Any] | UnsetType = UNSET


class TextOptions(Struct, kw_only=True):
    """How the text is to be."""

    format: TextFormat | None = None


class ResponseRequest(Struct, kw_only=True):
    """Body of `POST /v1/responses`. `narration`, `seed`, `stop` and `top_k` are ours."""

    model: str | None = None
    input: str | Annotated[list[InputItem], Meta(min_length=1, max_length=1024)]
    instructions: str | None = None
    max_output_tokens: MaxTokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=4)] | None = None
    text: TextOptions | None = None
    stream: bool | None = None
    background: bool | None = None
    metadata: Metadata | None = None
    narration: Literal["off", "event"] | None = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    tools: Annotated[list[ResponseTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: Any = None
    include: Any = None


# What is answered


class OutputText(Struct, kw_only=True, tag_field="type", tag="output_text"):
    """The text of an answer."""

    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class OutputMessage(Struct, kw_only=True, tag_field="type", tag="message"):
    """The one message of an answer; one that only calls has none."""

    id: str
    status: ItemStatus
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class InputTokensDetails(Struct, kw_only=True):
    """Tokens of the input that the engine knew already."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, kw_only=True):
    """Tokens of the output that are not text."""

    reasoning_tokens: int = 0


class ResponseUsage(Struct, kw_only=True):
    """Counts of a response that is over."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(Struct, kw_only=True):
    """Why a response failed: `code` is one of OpenAI's, `type` is ours and says more."""

    code: ErrorCode
    message: str
    type: str
    param: str | None = None


class IncompleteDetails(Struct, kw_only=True):
    """Why a response is not whole."""

    reason: Literal["max_output_tokens"]


class Response(Struct, kw_only=True):
    """A response as it is now. Of what was asked, what may be long is not repeated: input, instructions, schema."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: ResponseStatus
    background: bool
    model: str
    output: list[OutputMessage | FunctionCallItem] = []
    usage: ResponseUsage | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    text: TextOptions
    metadata: dict[str, str] = {}
    previous_response_id: None = None
    parallel_tool_calls: bool = False
    tool_choice: Literal["none", "auto", "required"] = "none"
    tools: list[Any] = []
    truncation: Literal["disabled"] = "disabled"


# What is streamed


class _Numbered(Struct, kw_only=True, tag_field="type"):
    """Numbered from 0, the same whenever the stream is read."""

    sequence_number: int


class _OfResponse(_Numbered, kw_only=True):
    response: Response


class ResponseCreated(_OfResponse, tag="response.created"):
    """The first event."""


class ResponseQueued(_OfResponse, tag="response.queued"):
    """It has to wait. Does not come where it need not."""


class ResponseInProgress(_OfResponse, tag="response.in_progress"):
    """The engine works on it."""


class ResponseCompleted(_OfResponse, tag="response.completed"):
    """The last event of a whole answer."""


class ResponseIncomplete(_OfResponse, tag="response.incomplete"):
    """The last event of an answer that was cut off."""


class ResponseFailed(_OfResponse, tag="response.failed"):
    """The last event of a response that failed or, as its `status` says, was cancelled."""


class OutputItemAdded(_Numbered, kw_only=True, tag="response.output_item.added"):
    """A message or a call begins."""

    output_index: int = 0
    item: OutputMessage | FunctionCallItem


class OutputItemDone(_Numbered, kw_only=True, tag="response.output_item.done"):
    """A message or a call is as it will be."""

    output_index: int = 0
    item: OutputMessage | FunctionCallItem


class _OfPart(_Numbered, kw_only=True):
    item_id: str
    output_index: int = 0
    content_index: int = 0


class ContentPartAdded(_OfPart, kw_only=True, tag="response.content_part.added"):
    """The text begins."""

    part: OutputText


class ContentPartDone(_OfPart, kw_only=True, tag="response.content_part.done"):
    """The text is as it will be."""

    part: OutputText


class OutputTextDelta(_OfPart, kw_only=True, tag="response.output_text.delta"):
    """A bit of text."""

    delta: str
    logprobs: list[Any] = []


class OutputTextDone(_OfPart, kw_only=True, tag="response.output_text.done"):
    """All of the text."""

    text: str
    logprobs: list[Any] = []


class _OfCall(_Numbered, kw_only=True):
    item_id: str
    output_index: int


class ArgumentsDelta(_OfCall, kw_only=True, tag="response.function_call_arguments.delta"):
    """Arguments of a call."""

    delta: str


class ArgumentsDone(_OfCall, kw_only=True, tag="response.function_call_arguments.done"):
    """All of the arguments."""

    name: str
    arguments: str


class Keepalive(_Numbered, tag="keepalive"):
    """Said in silence. Its number is the last event's."""


class StreamError(_Numbered, kw_only=True, tag="error"):
    """Said last where the stream ends before its response. Its number is the last event's: read on after it."""

    code: str
    message: str
    param: None = None


class RelayNarration(_Numbered, kw_only=True, tag="relay.narration"):
    """A sentence of what happens, if the client asked for them. Its number is the last event's."""

    narration: Narrated


ResponseEvent = (
    ResponseCreated | ResponseQueued | ResponseInProgress | ResponseCompleted | ResponseIncomplete | ResponseFailed
    | OutputItemAdded | OutputItemDone | ContentPartAdded | ContentPartDone | OutputTextDelta | OutputTextDone
    | ArgumentsDelta | ArgumentsDone | Keepalive | StreamError | RelayNarration
)  # fmt: skip

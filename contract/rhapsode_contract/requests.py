"""What a client may ask for: the body of `POST /v1/inference`, with OpenAI's names where OpenAI has one."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rhapsode_contract.frames import Level
from rhapsode_contract.names import MAX_GRAMMAR_CHARS, MAX_REGEX_CHARS
from rhapsode_contract.tools import MAX_TOOLS, CallId, Tool, ToolCall

OnDisconnect = Literal["cancel", "grace", "continue"]
Style = Literal["human", "cute", "story"]
Stop = Annotated[str, Meta(min_length=1, max_length=256)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class TextPart(Struct, kw_only=True):
    """A part of a message; text is the only kind that is supported."""

    type: Literal["text"]
    text: str


class ChatMessage(Struct, kw_only=True):
    """One chat message; a list of parts is joined. One that only calls tools may have no content (null).

    A message of the role `tool` is the result of the call `tool_call_id`.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[TextPart] | None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=MAX_TOOLS)] = []
    tool_call_id: CallId = ""
    name: Annotated[str, Meta(max_length=256)] = ""

    def text(self) -> str:
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content)


class NarrationOptions(Struct, kw_only=True):
    """Which narration this job's readers get: `style` beside plain words, from `level` up, `max_rate` a second."""

    style: Style | None = None
    level: Level = "info"
    max_rate: Annotated[float, Meta(gt=0, le=1000)] = 20.0


class InferenceRequest(Struct, kw_only=True):
    """One request. Exactly one of `prompt` and `messages`; fields that are not named here are ignored.

    At most one of `json_schema`, `regex` and `grammar` says what the answer must keep to (`guides`). `tools` are for
    messages; the answer's text then holds the model's calls (`tools`). `logprobs` asks how probable each token was.
    """

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=1024)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_048_576)] = 256
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    logprobs: bool = False
    stop: Stop | Annotated[list[Stop], Meta(max_length=4)] | None = None
    json_schema: dict[str, Any] | None = None
    regex: Annotated[str, Meta(min_length=1, max_length=MAX_REGEX_CHARS)] | None = None
    grammar: Annotated[str, Meta(min_length=1, max_length=MAX_GRAMMAR_CHARS)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=MAX_TOOLS)] = []
    on_disconnect: OnDisconnect | None = None
    narration: NarrationOptions | None = None

    def stops(self) -> list[str]:
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def prompt_chars(self) -> int:
        if self.messages is not None:
            return sum(len(message.text()) for message in self.messages)
        return len(self.prompt or "")

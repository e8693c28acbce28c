"""What a client may ask for: the body of `POST /v1/inference`, with OpenAI's names where OpenAI has one."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rhapsode_contract.frames import Level

OnDisconnect = Literal["cancel", "grace", "continue"]
Style = Literal["human", "cute", "story"]
Stop = Annotated[str, Meta(min_length=1, max_length=256)]


class TextPart(Struct, kw_only=True):
    """A part of a message; text is the only kind that is supported."""

    type: Literal["text"]
    text: str


class ChatMessage(Struct, kw_only=True):
    """One chat message; a list of parts is joined."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[TextPart]

    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class NarrationOptions(Struct, kw_only=True):
    """Which narration this job's readers get: `style` beside plain words, from `level` up, `max_rate` a second."""

    style: Style | None = None
    level: Level = "info"
    max_rate: Annotated[float, Meta(gt=0, le=1000)] = 20.0


class InferenceRequest(Struct, kw_only=True):
    """One request. Exactly one of `prompt` and `messages`; fields that are not named here are ignored."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=1024)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_048_576)] = 256
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=4)] | None = None
    json_schema: dict[str, Any] | None = None
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

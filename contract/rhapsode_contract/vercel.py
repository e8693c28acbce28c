"""Vercel's AI SDK on the wire: what its `useChat` sends to `POST /v1/vercel/chat`, and the chunks that it gets.

Fields of a request that are not named here are ignored.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rhapsode_contract.wishes import MAX_MESSAGES, Wishes

Id = Annotated[str, Meta(max_length=1024)]


class Part(Struct, kw_only=True):
    """A part of a message; text is all that a model of text takes."""

    type: str
    text: str = ""


class UIMessage(Struct, kw_only=True):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    parts: Annotated[list[Part], Meta(max_length=MAX_MESSAGES)]
    id: Id = ""


class ChatRequest(Wishes, kw_only=True):
    """Body of `POST /v1/vercel/chat`: the whole chat `id`, of which the next message is wanted."""

    id: Annotated[str, Meta(min_length=1, max_length=1024)]
    messages: Annotated[list[UIMessage], Meta(min_length=1, max_length=MAX_MESSAGES)]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"


class _Chunk(Struct, kw_only=True, tag_field="type", rename="camel"):
    """What all chunks have: a type, by the protocol's own names."""


class Start(_Chunk, tag="start"):
    """A message begins; its metadata names the job."""

    message_id: str
    message_metadata: dict[str, Any]


class StartStep(_Chunk, tag="start-step"):
    """Its one step begins."""


class TextStart(_Chunk, tag="text-start"):
    """Its text begins."""

    id: str


class TextDelta(_Chunk, tag="text-delta"):
    """More of the text."""

    id: str
    delta: str


class TextEnd(_Chunk, tag="text-end"):
    """The text is whole."""

    id: str


class FinishStep(_Chunk, tag="finish-step"):
    """The step is complete."""


class Finish(_Chunk, tag="finish"):
    """The message is complete; its metadata is what our own `end` says."""

    message_metadata: dict[str, Any]


class Failure(_Chunk, tag="error"):
    """The message failed."""

    error_text: str


class Abort(_Chunk, tag="abort"):
    """The message was stopped."""


MessageChunk = Start | StartStep | TextStart | TextDelta | TextEnd | FinishStep | Finish | Failure | Abort
"""Those of fixed types; the others are `DataPart`."""


class DataPart(Struct, kw_only=True, omit_defaults=True):
    """What the protocol has no word for: its `type` is `data-` and a name. A transient one is not kept."""

    type: str
    data: Any
    transient: bool = False

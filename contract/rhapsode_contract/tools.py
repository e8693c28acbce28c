"""Tools that a model may call, by OpenAI's names. For the relay and the engines.

A model tells a call as `<tool_call>{"name": …, "arguments": {…}}</tool_call>` in its text: the convention of Hermes,
Qwen and many others. An engine says `Caps.tools` when its model's chat template takes tools and tells calls like
this; no other convention is claimed.
"""

from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta, Struct

OPENING = "<tool_call>"
CLOSING = "</tool_call>"
MAX_TOOLS = 128
"""Tools of one request, and calls of one message."""

ToolName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
CallId = Annotated[str, Meta(max_length=256)]


class Function(Struct, kw_only=True):
    """What can be called: `parameters` is the JSON schema of its arguments. Templates ask for all of it."""

    name: ToolName
    description: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "object", "properties": {}})


class Tool(Struct, kw_only=True):
    """A tool; functions are the only kind there is."""

    type: Literal["function"]
    function: Function


class FunctionCall(Struct, kw_only=True):
    """What was called. `arguments` is JSON, as the model wrote it."""

    name: ToolName
    arguments: str


class ToolCall(Struct, kw_only=True):
    """A call that a model made, told back to it before the result."""

    type: Literal["function"] = "function"
    id: CallId = ""
    function: FunctionCall


class Turn(Protocol):
    """Who may hold calls: a message of a request, or of a `Generate`."""

    @property
    def tool_calls(self) -> list[ToolCall]: ...


class Wishes(Protocol):
    """Who may want what not every engine can: an `InferenceRequest`, a `Generate`."""

    @property
    def tools(self) -> list[Tool]: ...
    @property
    def presence_penalty(self) -> float | None: ...
    @property
    def frequency_penalty(self) -> float | None: ...


def penalty_of(request: Wishes) -> str | None:
    """Return the name of a penalty that would change the answer."""
    names = ("presence_penalty", "frequency_penalty")
    return next((name for name in names if getattr(request, name)), None)

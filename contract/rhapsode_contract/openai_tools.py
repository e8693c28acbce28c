"""Tools in OpenAI's chats and responses: how clients offer them, how calls are told. Fields not named are ignored."""

from typing import Any, Literal

from msgspec import Struct

from rhapsode_contract.tools import ToolName


class ToolFunction(Struct, kw_only=True):
    """What can be called."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ChatTool(Struct, kw_only=True):
    """A tool; functions are the only kind that is supported."""

    type: Literal["function"]
    function: ToolFunction


class ToolNamed(Struct, kw_only=True):
    """Which function must be called."""

    name: str


class NamedTool(Struct, kw_only=True):
    """The tool that must be called."""

    type: Literal["function"]
    function: ToolNamed


class FunctionDelta(Struct, kw_only=True, omit_defaults=True):
    """What is new of a call: its name first, then its arguments."""

    name: str | None = None
    arguments: str


class CallDelta(Struct, kw_only=True, omit_defaults=True):
    """What is new of the call `index`."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class ResponseTool(Struct, kw_only=True):
    """A tool of a response; functions are the only kind that is supported."""

    type: str
    name: ToolName | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class NamedFunction(Struct, kw_only=True):
    """The tool that a response must call."""

    type: Literal["function"]
    name: str


class FunctionCallItem(Struct, kw_only=True, tag_field="type", tag="function_call"):
    """A call as an item of a response."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed"] = "completed"

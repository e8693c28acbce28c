"""Conversations as chat templates take them, and whether a template tells calls of tools our way. Pure.

Called by the engines whose models have templates.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from rhapsode_contract import frames
from rhapsode_contract.tools import CLOSING, OPENING, Function, FunctionCall, Tool, ToolCall

_NAME, _VALUE = "probe_of_tools", "probe-of-arguments"
_TAGGED = re.compile(f"{OPENING}(.*?){CLOSING}", re.DOTALL)


class Conversation(NamedTuple):
    """What a template is rendered with."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None


def conversation_of(request: frames.Generate) -> Conversation:
    """Return a request's messages and tools; arguments are objects, as templates want them."""
    messages = [_message(one) for one in request.messages or ()]
    return Conversation(messages, msgspec.to_builtins(request.tools) or None)


def calls_tools(render: Callable[[Conversation], str]) -> bool:
    """Return whether a template takes tools, and tells of a call as we read one.

    A template is a program: the one way to know is to let it speak. What it refuses, it does not do.
    """
    try:
        return _NAME in render(_PROBE._replace(messages=_PROBE.messages[:1])) and _tells_call(render(_PROBE))
    except Exception:
        return False


def _message(message: frames.Message) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(message)
    for call in told.get("tool_calls", ()):
        function = call["function"]
        function["arguments"] = _object(function["arguments"])
    return told


def _object(arguments: str) -> Any:
    """Return arguments as an object; what is none stays as it was written."""
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except msgspec.DecodeError:
        return arguments


def _tells_call(text: str) -> bool:
    wanted = {"name": _NAME, "arguments": {"word": _VALUE}}
    return any(_object(inside) == wanted for inside in _TAGGED.findall(text))


_CALL = ToolCall(id="call00001", function=FunctionCall(name=_NAME, arguments=f'{{"word":"{_VALUE}"}}'))
_PARAMETERS = {"type": "object", "properties": {"word": {"type": "string", "description": "a word"}}}
_PROBE = conversation_of(
    frames.Generate(
        job_id="probe",
        correlation_id="",
        max_tokens=1,
        messages=[
            frames.Message(role="user", content="Hello"),
            frames.Message(role="assistant", content="", tool_calls=[_CALL]),
            frames.Message(role="tool", content="done", tool_call_id=_CALL.id, name=_NAME),
        ],
        tools=[Tool(type="function", function=Function(name=_NAME, description="Probe.", parameters=_PARAMETERS))],
    )
)

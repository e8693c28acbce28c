"""What an OpenAI client asks of tools, for a request of ours. Called by `asking` and `response_asking`. Pure.

Where a tool must be called, the answer is kept to a schema: the call itself.
"""

from typing import Any, Literal, NamedTuple

import msgspec

from rhapsode_contract.openai import ChatRequest
from rhapsode_contract.openai_responses import ResponseRequest
from rhapsode_contract.openai_tools import NamedFunction, NamedTool, ResponseTool, ToolFunction
from rhapsode_contract.tools import Function, Tool
from rhapsode_relay.errors import BadRequest, unsupported
from rhapsode_relay.openai.tool_calls import NEVER, Calling

ONLY_TEXT = "a text that keeps to it calls no tools; leave it out, or send tool_choice 'none' or 'required'"
_VALUES = ("const", "enum", "default", "examples")
"""Words of JSON schemas whose values are no schemas."""


Choice = Literal["none", "auto", "required"] | NamedTool | NamedFunction | None


class Offer(NamedTuple):
    """What a request comes to: the tools for the template, how calls come, and what the answer must keep to."""

    tools: list[Tool]
    calling: Calling = NEVER
    schema: dict[str, Any] | None = None


def offer_of(wanted: ChatRequest) -> Offer:
    """Return what a chat asks of tools. Raises BadRequest."""
    tools = [_tool(one.function) for one in wanted.tools or ()]
    return _offer(tools, wanted.tool_choice, wanted.parallel_tool_calls)


def offer_of_response(wanted: ResponseRequest) -> Offer:
    """Return what a response asks of tools. Raises BadRequest."""
    told = [] if wanted.tool_choice == "none" else wanted.tools or ()
    tools = [_function(one, f"tools[{at}]") for at, one in enumerate(told)]
    return _offer(tools, wanted.tool_choice, wanted.parallel_tool_calls)


def _offer(tools: list[Tool], choice: Choice, parallel: bool | None) -> Offer:
    forced = choice not in (None, "auto", "none")
    if not tools or choice == "none":
        if forced:
            raise BadRequest("tool_choice: give the 'tools' to choose from", param="tool_choice")
        return Offer([])
    if not forced:
        return Offer(tools, Calling("tags", parallel is not False))
    return Offer(tools, Calling("whole", parallel is not False), _schema_of(_chosen(tools, choice)))


def _chosen(tools: list[Tool], choice: Choice) -> list[Tool]:
    if not isinstance(choice, NamedTool | NamedFunction):
        return tools
    name = choice.function.name if isinstance(choice, NamedTool) else choice.name
    if found := [tool for tool in tools if tool.function.name == name]:
        return found[:1]
    raise BadRequest(f"tool_choice: there is no tool {name[:80]!r} among 'tools'", param="tool_choice")


def _function(tool: ResponseTool, where: str) -> Tool:
    if tool.type != "function":
        raise unsupported(f"{where}.type", f"this worker calls functions only, and no {tool.type[:40]!r}")
    if tool.name is None:
        raise BadRequest(f"{where}.name: say what the function is called", param=f"{where}.name")
    return _tool(ToolFunction(name=tool.name, description=tool.description, parameters=tool.parameters))


def _tool(told: ToolFunction) -> Tool:
    function = Function(name=told.name, description=told.description or "")
    if told.parameters:
        function.parameters = told.parameters
    return Tool(type="function", function=function)


def _schema_of(tools: list[Tool]) -> dict[str, Any]:
    """Return the schema of a call of one of these."""
    if len(tools) == 1:
        return _call_of(tools[0].function, "#")
    return {"anyOf": [_call_of(tool.function, f"#/anyOf/{at}") for at, tool in enumerate(tools)]}


def _call_of(function: Function, where: str) -> dict[str, Any]:
    parameters = _moved(function.parameters, f"{where}/properties/arguments")
    return {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": [function.name]}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a copy of a schema that lies elsewhere: what refers to a place in it must name that place anew."""
    moved: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))
    left: list[Any] = [moved]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            reference = one.get("$ref")
            if isinstance(reference, str) and reference.startswith("#"):
                one["$ref"] = where + reference.removeprefix("#")
            left += [value for word, value in one.items() if word not in _VALUES]
        elif isinstance(one, list):
            left += one
    return moved

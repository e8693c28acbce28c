"""An agent's loop through the real relay and worker: the model calls a tool, is told the result, and answers."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from support.chats import Told, chat, finish
from support.engines import TEMPLATE
from support.processes import Play, manifest, playing

CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Delphi"]}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather.", "parameters": CITY}}]
ASK: dict[str, Any] = {"role": "user", "content": "How is the weather in Delphi?"}
TOOL_BOX = {"get_weather": lambda city: f"It is oracular in {city}."}


@pytest.fixture(scope="module")
def simulated() -> Iterator[Play]:
    """A simulator that calls tools."""
    options = {"tools": True, "load": [], "tokensPerSecond": 0}
    with playing(manifest(engine={"options": options})) as play:
        play.wait_ready()
        yield play


@pytest.fixture(scope="module")
def calling() -> Iterator[Play]:
    """A real model, with a chat template that has tools."""
    resource = manifest("smollm", engine={"name": "OpenVINO", "options": {"chat_template": TEMPLATE.read_text()}})
    resource["spec"]["model"] = {"source": "builtin://smollm2-135m", "servedName": "smollm"}
    with playing(resource) as play:
        play.wait_ready(120)
        yield play


def ask(play: Play, messages: list[Any], **wishes: Any) -> httpx.Response:
    body = {"messages": messages, "max_tokens": 120, "temperature": 0} | wishes
    return httpx.post(f"{play.url}/v1/chat/completions", json=body, timeout=120)


def answer_calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Do what an agent does: call what the model wants called."""
    results = []
    for call in message["tool_calls"]:
        function = call["function"]
        result = TOOL_BOX[function["name"]](**json.loads(function["arguments"]))
        results.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    return results


def test_a_call_its_result_and_an_answer(simulated: Play) -> None:
    first = ask(simulated, [ASK], tools=TOOLS).json()["choices"][0]
    assert (first["finish_reason"], first["message"]["content"]) == ("tool_calls", None)
    messages = [ASK, first["message"], *answer_calls(first["message"])]
    second = ask(simulated, messages, tools=TOOLS).json()["choices"][0]
    assert second["finish_reason"] == "stop"
    assert second["message"]["content"]
    assert "tool_calls" not in second["message"]


def test_the_same_loop_streamed(simulated: Play) -> None:
    with chat(simulated.port, messages=[ASK], tools=TOOLS) as stream:
        told = finish(stream)
    message = message_of(told)
    assert told.finish_reason == "tool_calls"
    messages = [ASK, message, *answer_calls(message)]
    with chat(simulated.port, messages=messages, tools=TOOLS, max_tokens=20) as stream:
        told = finish(stream)
    assert told.finish_reason == "length"
    assert told.text


def test_a_call_that_the_limit_cuts_off_is_text(simulated: Play) -> None:
    choice = ask(simulated, [ASK], tools=TOOLS, max_tokens=8).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"].startswith("<tool_call>")


@pytest.mark.parametrize(
    ("wishes", "param"),
    [({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"), ({"presence_penalty": 1}, "presence_penalty")],
)
def test_the_simulator_says_what_it_cannot(simulated: Play, wishes: dict[str, Any], param: str) -> None:
    answer = ask(simulated, [ASK], **wishes)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.model
def test_a_model_whose_template_has_no_tools_says_so(smollm_play: Play) -> None:
    error = ask(smollm_play, [ASK], tools=TOOLS).json()["error"]
    assert (error["code"], error["param"], "chat template" in error["message"]) == ("unsupported", "tools", True)
    assert ask(smollm_play, [ASK], presence_penalty=1, max_tokens=5).status_code == 200


@pytest.mark.model
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_real_model_that_must_call_calls_with_arguments_that_keep_to_the_schema(calling: Play, choice: Any) -> None:
    first = ask(calling, [ASK], tools=TOOLS, tool_choice=choice).json()["choices"][0]
    (call,) = first["message"]["tool_calls"]
    jsonschema.validate(json.loads(call["function"]["arguments"]), CITY)
    second = ask(calling, [ASK, first["message"], *answer_calls(first["message"])], tools=TOOLS)
    assert second.status_code == 200, second.text
    assert second.json()["usage"]["prompt_tokens"] > 60, "tools, call and result are part of the prompt"


def message_of(told: Told) -> dict[str, Any]:
    """Return the message that the chunks of a stream make."""
    calls: list[dict[str, Any]] = []
    for chunk in told.chunks:
        for delta in chunk["choices"][0]["delta"].get("tool_calls", ()):
            if "id" in delta:
                calls.append({"id": delta["id"], "type": "function", "function": delta["function"]})
            else:
                calls[delta["index"]]["function"]["arguments"] += delta["function"]["arguments"]
    return {"role": "assistant", "content": told.text or None, "tool_calls": calls}

"""Tools in OpenAI's chats: offered to the model, forced by a schema, and told as calls, streamed or not."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import msgspec
import pytest

from rhapsode_contract import frames
from rhapsode_contract.openai import ChatRequest
from rhapsode_relay.openai.tool_asking import offer_of
from support.chats import Told, ask_whole, chat, finish
from support.fake_worker import FakeWorker
from support.processes import DEADLINE_S, Relay, wait_until
from support.requests import assert_error

KEY = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}
TOOLS = [
    {"type": "function", "function": {"name": "sing", "description": "Sing.", "parameters": KEY, "strict": True}},
    {"type": "function", "function": {"name": "rest", "description": None}},
]
SING = '{"name": "sing", "arguments": {"key": "C"}}'
SAID = (
    "I",
    " sing.",
    "<tool",
    "_call>\n",
    SING[:9],
    SING[9:],
    "\n</tool_call>",
    "\n<tool_call>",
    '{"name":"rest"}',
    "</tool_call>",
)
CALLS = [("sing", {"key": "C"}), ("rest", {})]
NAMED = {"type": "function", "function": {"name": "sing"}}


def calls_in(told: Told) -> list[tuple[str, str, Any]]:
    """Return the calls of a stream as its clients put them together: id, name, arguments."""
    calls: list[dict[str, str]] = []
    for chunk in told.chunks:
        for delta in chunk["choices"][0]["delta"].get("tool_calls", ()) if chunk["choices"] else ():
            if delta["index"] == len(calls):
                assert delta["type"] == "function"
                calls.append({"id": delta["id"], "name": delta["function"]["name"], "arguments": ""})
            calls[delta["index"]]["arguments"] += delta["function"]["arguments"]
    return [(call["id"], call["name"], json.loads(call["arguments"])) for call in calls]


def test_calls_are_told_in_a_stream_by_ids_of_their_own(relay: Relay) -> None:
    wishes: dict[str, Any] = {"tools": TOOLS, "stream_options": {"include_usage": True}}
    with FakeWorker(relay.socket, tools=True) as worker, chat(relay.port, later=True, **wishes) as stream:
        job = worker.serve(*SAID)
        told = finish(stream)
    assert [tool.function.name for tool in job.tools] == ["sing", "rest"]
    assert (told.text, told.finish_reason, told.done) == ("I sing.", "tool_calls", True)
    assert calls_in(told) == [(f"call_{job.job_id}_{at}", *call) for at, call in enumerate(CALLS)]
    assert told.chunks[-1]["usage"]["completion_tokens"] == len(SAID)


def test_calls_are_told_whole(relay: Relay) -> None:
    with FakeWorker(relay.socket, tools=True) as worker:
        answer = ask_in_background(relay, worker, SAID, tools=TOOLS)
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I sing."
    calls = choice["message"]["tool_calls"]
    assert [(one["type"], one["function"]["name"]) for one in calls] == [("function", "sing"), ("function", "rest")]
    assert [json.loads(one["function"]["arguments"]) for one in calls] == [{"key": "C"}, {}]
    assert len({one["id"] for one in calls}) == 2


def test_an_answer_that_only_calls_has_no_content_and_one_without_calls_is_as_ever(relay: Relay) -> None:
    with FakeWorker(relay.socket, tools=True) as worker:
        only = ask_in_background(relay, worker, SAID[2:], tools=TOOLS)["choices"][0]
        plain = ask_in_background(relay, worker, ("la <tool", " la"), tools=TOOLS)["choices"][0]
    assert (only["message"]["content"], len(only["message"]["tool_calls"])) == (None, 2)
    assert plain["message"] == {"role": "assistant", "content": "la <tool la", "refusal": None}
    assert plain["finish_reason"] == "stop"


def test_a_call_that_was_cut_off_is_text_and_nothing_of_it_is_lost(relay: Relay) -> None:
    with FakeWorker(relay.socket, tools=True) as worker, chat(relay.port, later=True, tools=TOOLS) as stream:
        worker.serve("<tool_call>", '{"name":"si')
        told = finish(stream)
    assert (told.text, told.finish_reason, calls_in(told)) == ('<tool_call>{"name":"si', "stop", [])


def test_a_worker_that_is_lost_within_a_call_leaves_what_it_said_and_an_error(relay: Relay) -> None:
    with FakeWorker(relay.socket, tools=True) as worker, chat(relay.port, later=True, tools=TOOLS) as stream:
        job = worker.begin()
        worker.speak(job, "Well", "<tool_call>", '{"name":')
        wait_until(lambda: stream.read_some() and b"Well" in stream.raw, "the text before the call is told")
        worker.send(frames.Error(job_id=job.job_id, code="engine_crashed", message="signal 9", retryable=True))
        told = finish(stream)
    assert told.text == 'Well<tool_call>{"name":'
    assert told.error is not None
    assert (told.error["code"], told.done) == ("engine_crashed", True)


def test_one_call_at_a_time_if_the_client_wants_no_more(relay: Relay) -> None:
    with FakeWorker(relay.socket, tools=True) as worker:
        answer = ask_in_background(relay, worker, SAID, tools=TOOLS, parallel_tool_calls=False)
    assert [one["function"]["name"] for one in answer["choices"][0]["message"]["tool_calls"]] == ["sing"]


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_tool_that_must_be_called_is_a_schema_for_the_engine(relay: Relay, choice: Any) -> None:
    wishes: dict[str, Any] = {"tools": TOOLS, "tool_choice": choice}
    with (
        FakeWorker(relay.socket, tools=True, json_schema=True) as worker,
        chat(relay.port, later=True, **wishes) as stream,
    ):
        job = worker.serve(SING[:9], SING[9:])
        told = finish(stream)
    assert job.json_schema is not None
    jsonschema.validate(json.loads(SING), job.json_schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "dance", "arguments": {}}, job.json_schema)
    assert (told.text, told.finish_reason) == ("", "tool_calls")
    assert calls_in(told) == [(f"call_{job.job_id}_0", *CALLS[0])]


def test_no_tool_is_offered_if_the_client_wants_no_call(relay: Relay) -> None:
    with FakeWorker(relay.socket) as worker, chat(relay.port, later=True, tools=TOOLS, tool_choice="none") as stream:
        job = worker.serve(f"<tool_call>{SING}</tool_call>")
        assert finish(stream).text == f"<tool_call>{SING}</tool_call>"
    assert job.tools == []


def test_calls_and_their_results_are_told_to_the_model(relay: Relay) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "sing", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Sing!"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": [{"type": "text", "text": "la"}], "tool_call_id": "call_1"},
    ]
    with (
        FakeWorker(relay.socket, tools=True) as worker,
        chat(relay.port, later=True, messages=messages, tools=TOOLS) as stream,
    ):
        job = worker.serve("done")
        assert finish(stream).text == "done"
    assert job.messages is not None
    assert job.messages[1].tool_calls[0].function.name == "sing"
    assert (job.messages[2].role, job.messages[2].content, job.messages[2].tool_call_id) == ("tool", "la", "call_1")


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"tools": TOOLS}, "tools"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_the_engine_cannot_do_is_refused(
    shared: Relay, wishes: dict[str, Any], param: str, stream: bool
) -> None:
    assert assert_error(ask_whole(shared, stream=stream, **wishes), 400, "unsupported")["param"] == param


def test_without_schemas_no_tool_can_be_forced(shared: Relay) -> None:
    answer = ask_whole(shared, tools=TOOLS, tool_choice="required")
    error = assert_error(answer, 400, "unsupported")
    assert (error["param"], "a tool can be forced by a schema only" in error["message"]) == ("tool_choice", True)


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "dance"}}}, "tool_choice"),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "x" * 65}}]}, "tools[0].function.name"),
        ({"functions": [{"name": "sing"}]}, "functions"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(shared: Relay, wishes: dict[str, Any], param: str) -> None:
    answer = ask_whole(shared, **wishes)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_penalties_reach_the_worker(relay: Relay) -> None:
    wishes: dict[str, Any] = {"presence_penalty": -2, "frequency_penalty": 0.5}
    with FakeWorker(relay.socket, penalties=True) as worker, chat(relay.port, later=True, **wishes) as stream:
        job = worker.serve("la")
        finish(stream)
    assert (job.presence_penalty, job.frequency_penalty) == (-2, 0.5)


def test_references_within_a_tools_schema_still_name_what_they_named() -> None:
    parameters = {
        "type": "object", "required": ["of", "again"], "$defs": {"key": {"enum": ["C", "D"]}},
        "properties": {"of": {"$ref": "#/$defs/key"}, "again": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}, "$ref": {}},
    }  # fmt: skip
    tools = [{"type": "function", "function": {"name": name, "parameters": parameters}} for name in ("one", "two")]
    for choice in ("required", {"type": "function", "function": {"name": "two"}}):
        wanted = {"messages": [{"role": "user", "content": "a"}], "tools": tools, "tool_choice": choice}
        schema = offer_of(msgspec.convert(wanted, ChatRequest)).schema
        assert schema is not None
        good = {"name": "two", "arguments": {"of": "C", "again": {"of": "D", "again": None}}}
        jsonschema.validate(good, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(good | {"arguments": {"of": "E", "again": None}}, schema)


def ask_in_background(relay: Relay, worker: FakeWorker, said: tuple[str, ...], **wishes: Any) -> dict[str, Any]:
    """Return the whole answer to a request that is served meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask_whole, relay, **wishes)
        worker.serve(*said)
        answer = asking.result(DEADLINE_S)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body

"""Tools in OpenAI's Responses: calls are items, streamed the same however often they are read."""

import json
from typing import Any

import pytest

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay
from support.requests import assert_error
from support.responses import (
    assert_numbered,
    create,
    create_stream,
    create_while,
    delta_text,
    id_of,
    kinds_of,
    raw_of,
    read_again,
)

KEY = {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}
TOOLS = [{"type": "function", "name": "sing", "description": "Sing.", "parameters": KEY, "strict": True}]
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
    SING,
    "</tool_call>",
    " La",
)
CALL_EVENTS = [
    "output_item.added",
    "function_call_arguments.delta",
    "function_call_arguments.done",
    "output_item.done",
]


def test_calls_are_items_beside_the_message(relay: Relay) -> None:
    with FakeWorker(relay.socket, tools=True) as worker:
        body = create_while(relay, lambda: worker.serve(*SAID), tools=TOOLS).json()
    message, *calls = body["output"]
    assert message["content"][0]["text"] == "I sing. La"
    assert [(call["type"], call["name"], json.loads(call["arguments"])) for call in calls] == [
        ("function_call", "sing", {"key": "C"})
    ] * 2
    assert len({call["call_id"] for call in calls} | {call["id"] for call in calls}) == 4
    assert (body["status"], body["tool_choice"], body["parallel_tool_calls"]) == ("completed", "auto", True)


def test_an_answer_that_only_calls_has_no_message(relay: Relay) -> None:
    with FakeWorker(relay.socket, tools=True) as worker:
        body = create_while(relay, lambda: worker.serve(*SAID[2:7]), tools=TOOLS).json()
    assert [item["type"] for item in body["output"]] == ["function_call"]


def test_calls_are_streamed_and_read_again_from_any_number(relay: Relay) -> None:
    with FakeWorker(relay.socket, tools=True) as worker:
        with create_stream(relay.port, tools=TOOLS, background=True) as stream:
            worker.serve(*SAID)
            events = stream.rest()
        whole = events[-1].data["response"]["output"]
        for after in (None, 3, 8, len(events) - 2):
            with read_again(relay.port, id_of(events), after) as again:
                assert raw_of(again.rest()) == raw_of(events[0 if after is None else after + 1 :])
    assert_numbered(events)
    assert kinds_of(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        *CALL_EVENTS, *CALL_EVENTS,
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert delta_text(events) == "I sing. La"
    done = [event.data for event in events if event.name == "response.output_item.done"]
    assert {item["output_index"]: item["item"] for item in done} == dict(enumerate(whole))


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "sing"}])
def test_a_tool_that_must_be_called_is_a_schema_for_the_engine(relay: Relay, choice: Any) -> None:
    wishes: dict[str, Any] = {"tools": TOOLS, "tool_choice": choice}
    with (
        FakeWorker(relay.socket, tools=True, json_schema=True) as worker,
        create_stream(relay.port, **wishes) as stream,
    ):
        job = worker.serve(SING)
        events = stream.rest()
    assert job.json_schema is not None
    assert kinds_of(events) == ["created", "in_progress", *CALL_EVENTS, "completed"]


def test_a_call_that_is_cut_off_is_text(relay: Relay) -> None:
    with FakeWorker(relay.socket, tools=True) as worker, create_stream(relay.port, tools=TOOLS) as stream:
        worker.serve("<tool_call>", '{"name":"si')
        events = stream.rest()
    assert delta_text(events) == '<tool_call>{"name":"si'
    assert events[-1].data["response"]["output"][0]["content"][0]["text"] == '<tool_call>{"name":"si'


def test_a_worker_that_is_lost_within_a_call_leaves_what_it_said(relay: Relay) -> None:
    with FakeWorker(relay.socket, tools=True) as worker, create_stream(relay.port, tools=TOOLS) as stream:
        job = worker.begin()
        worker.speak(job, "Well", "<tool_call>", '{"name":')
        worker.send(frames.Error(job_id=job.job_id, code="engine_crashed", message="signal 9", retryable=True))
        events = stream.rest()
    assert delta_text(events) == 'Well<tool_call>{"name":'
    assert events[-1].name == "response.failed"


def test_calls_and_their_outputs_are_told_to_the_model(relay: Relay) -> None:
    call = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "sing",
        "arguments": "{}",
        "status": "completed",
    }
    output = {"type": "function_call_output", "call_id": "call_1", "output": "la"}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I sing."}]}
    asked = [{"role": "user", "content": "Sing!"}, said, call, call, output, call, output]
    with FakeWorker(relay.socket, tools=True) as worker, create_stream(relay.port, asked, tools=TOOLS) as stream:
        job = worker.serve("done")
        stream.rest()
    assert job.messages is not None
    told = [(one.role, one.content, len(one.tool_calls), one.tool_call_id) for one in job.messages]
    assert told == [
        ("user", "Sing!", 0, ""), ("assistant", "I sing.", 2, ""), ("tool", "la", 0, "call_1"),
        ("assistant", "", 1, ""), ("tool", "la", 0, "call_1"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"tools": TOOLS}, "tools"),
        ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "name": "dance"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "web_search_preview"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": TOOLS, "text": {"format": {"type": "json_object"}}}, "text.format"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(shared: Relay, wishes: dict[str, Any], param: str) -> None:
    answer = create(shared, **wishes)
    code = answer.json()["error"]["code"]
    assert assert_error(answer, 400, code)["param"] == param

"""Tools, penalties and probabilities of our own requests: told to engines that know them, refused for others, also after a wait."""

from typing import Any

import pytest

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay, wait_until
from support.requests import assert_error, post
from support.streams import ask, text_of

TOOLS = [{"type": "function", "function": {"name": "sing", "parameters": {"type": "object", "properties": {}}}}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "sing", "arguments": '{"key":"C"}'}}
ASK: dict[str, Any] = {"role": "user", "content": "Sing!"}
ROUND = [
    ASK,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "la", "tool_call_id": "call_1"},
]
WISHES: list[tuple[dict[str, Any], str]] = [
    ({"messages": [ASK], "tools": TOOLS}, "tools"),
    ({"messages": ROUND}, "messages"),
    ({"prompt": "a", "presence_penalty": 0.5}, "presence_penalty"),
    ({"prompt": "a", "frequency_penalty": -2}, "frequency_penalty"),
    ({"prompt": "a", "logprobs": True}, "logprobs"),
]


@pytest.mark.parametrize(("wish", "param"), WISHES)
def test_what_an_engine_cannot_do_is_refused_by_name(relay: Relay, wish: dict[str, Any], param: str) -> None:
    able = {"penalties": True} if param in ("tools", "messages") else {"tools": True}
    with FakeWorker(relay.socket, **able):
        wait_until(lambda: relay.metric("rhapsode_worker_ready") == 1, "the worker is ready")
        assert assert_error(post(relay, wish), 400, "unsupported")["param"] == param


@pytest.mark.parametrize(("wish", "param"), WISHES)
def test_who_waits_for_a_load_is_refused_when_it_is_known_what_the_engine_can(
    relay: Relay, wish: dict[str, Any], param: str
) -> None:
    with (
        FakeWorker(relay.socket, ready=False) as worker,
        ask(relay.port, **_as_asked(wish)) as stream,
    ):
        stream.next("queued")
        worker.send(frames.State(phase="ready", caps=frames.Caps(slots=1)))
        error = stream.until("error")[-1].data
    assert (error["error"]["code"], error["error"]["param"], error["retryable"]) == ("unsupported", param, False)


def test_tools_calls_and_penalties_reach_the_worker_and_calls_come_back_as_text(relay: Relay) -> None:
    wishes: dict[str, Any] = {"tools": TOOLS, "presence_penalty": 0.5, "frequency_penalty": -1}
    said = ("<tool_call>", '{"name":"sing","arguments":{}}', "</tool_call>")
    with FakeWorker(relay.socket, tools=True, penalties=True) as worker, ask(relay.port, ROUND, **wishes) as stream:
        job = worker.serve(*said)
        assert text_of(stream.rest()) == "".join(said)
    assert (job.presence_penalty, job.frequency_penalty) == (0.5, -1)
    assert [tool.function.name for tool in job.tools] == ["sing"]
    assert job.messages is not None
    assert [one.content for one in job.messages] == ["Sing!", "", "la"]
    assert job.messages[1].tool_calls[0].function.arguments == '{"key":"C"}'
    assert job.messages[2].tool_call_id == "call_1"


def test_a_penalty_of_nothing_is_none(relay: Relay) -> None:
    with FakeWorker(relay.socket) as worker:
        assert post(relay, {"prompt": "a", "presence_penalty": 0, "frequency_penalty": 0.0}).status_code == 202
        worker.receive(frames.Generate)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "a", "tools": TOOLS}, "tools"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"),
        (
            {"messages": [ASK], "tools": [{"type": "function", "function": {"name": "no spaces"}}]},
            "tools[0].function.name",
        ),
        ({"messages": [ASK], "tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ({"messages": [ASK], "tools": TOOLS * 129}, "tools"),
        ({"prompt": "a", "presence_penalty": 2.1}, "presence_penalty"),
    ],
)
def test_what_makes_no_sense_is_refused(relay: Relay, body: dict[str, Any], param: str) -> None:
    with FakeWorker(relay.socket, tools=True, penalties=True):
        assert assert_error(post(relay, body), 400, "invalid_request")["param"] == param


def _as_asked(wish: dict[str, Any]) -> dict[str, Any]:
    """As `support.streams.ask` takes it, for which messages are a prompt too."""
    return {"prompt" if name == "messages" else name: value for name, value in wish.items()}

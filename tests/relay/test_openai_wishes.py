"""What a conversation may be asked for: wishes reach the worker, and what it cannot do is refused by name."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from support.chats import CHAT, HELLO, ask_whole
from support.fake_worker import FakeWorker
from support.processes import Relay, wait_until
from support.requests import assert_error


def test_the_worker_is_told_what_the_client_wished(relay: Relay, pool: ThreadPoolExecutor) -> None:
    wishes: dict[str, Any] = {
        "model": "sim",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "name": "me", "content": [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"role": "assistant", "content": None},
            {"role": "tool", "content": "42"},
        ],
        "max_completion_tokens": 5,
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "seed": -1,
        "stop": "END",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"type": "array"}}},
        "metadata": {"a": "b"},
        "user": "u",
        "store": True,
        "service_tier": "auto",
        "parallel_tool_calls": False,
    }  # fmt: skip
    with FakeWorker(relay.socket, json_schema=True) as worker:
        asked = pool.submit(ask_whole, relay, **wishes)
        job = worker.serve("[]")
        assert asked.result().status_code == 200
    assert job.messages is not None
    assert [(one.role, one.content) for one in job.messages] == [
        ("system", "be brief"),
        ("user", "ab"),
        ("assistant", ""),
        ("tool", "42"),
    ]
    assert (job.prompt, job.max_tokens, job.temperature, job.top_p, job.top_k) == (None, 5, 0.5, 0.9, 40)
    assert (job.seed, job.stop, job.json_schema) == (2**63 - 1, ["END"], {"type": "array"})
    assert job.meta["on_disconnect"] == "cancel"


def test_any_object_is_a_schema_too(relay: Relay, pool: ThreadPoolExecutor) -> None:
    with FakeWorker(relay.socket, json_schema=True) as worker:
        asked = pool.submit(ask_whole, relay, response_format={"type": "json_object"})
        assert worker.serve("{}").json_schema == {"type": "object"}
        assert asked.result().status_code == 200


def test_an_answer_may_be_as_long_as_the_context_if_nothing_is_said(relay: Relay, pool: ThreadPoolExecutor) -> None:
    first = pool.submit(ask_whole, relay)
    wait_until(lambda: relay.metric("rhapsode_jobs_queued") == 1, "it waits for the worker")
    with FakeWorker(relay.socket) as worker:
        assert worker.serve("a").max_tokens == 4096, "the context was not known then"
        second = pool.submit(ask_whole, relay)
        assert worker.serve("a").max_tokens == 100_000
        assert {first.result().status_code, second.result().status_code} == {200}


@pytest.mark.parametrize(
    "wish",
    [
        {"n": 1},
        {"logprobs": False, "top_logprobs": 0},
        {"presence_penalty": 0, "frequency_penalty": 0.0},
        {"logit_bias": {}},
        {"tools": [], "tool_choice": "auto"},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
        {"functions": [{"name": "f"}], "function_call": "none"},
        {"modalities": ["text"], "audio": None},
        {"response_format": {"type": "text"}},
        {"stop": None, "temperature": None, "stream_options": None, "max_tokens": None, "seed": None},
        {"stop": []},
    ],
)
def test_a_wish_that_asks_for_nothing_more_is_fine(
    relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor, wish: dict[str, Any]
) -> None:
    asked = pool.submit(ask_whole, relay, **wish)
    worker.serve("a")
    assert asked.result().status_code == 200


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"frequency_penalty": -0.5}, "frequency_penalty"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_what_would_silently_change_the_answer_is_refused_by_name(
    shared: Relay, wish: dict[str, Any], param: str, streamed: bool
) -> None:
    answer = ask_whole(shared, stream=streamed, **wish)
    error = assert_error(answer, 400, "unsupported")
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert error["message"]
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "boss", "content": "b"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"seed": 2**63}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_name(shared: Relay, wish: dict[str, Any], param: str) -> None:
    error = assert_error(ask_whole(shared, **wish), 400, "invalid_request")
    assert error["param"] == param


def test_a_body_that_is_no_request_is_refused(shared: Relay) -> None:
    for body in (b"", b"{", b"[]", b"[" * 100_000, b'{"messages":"\xff"}'):
        answer = httpx.post(shared.url + CHAT, content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] in ("invalid_json", "invalid_request")
    assert_error(httpx.post(shared.url + CHAT, content=b"x" * 1_100_000), 413, "body_too_large")


def test_another_model_is_not_found(shared: Relay) -> None:
    error = assert_error(ask_whole(shared, model="gpt-9"), 404, "model_not_found")
    assert error["param"] == "model"


def test_a_schema_that_the_engine_lacks_is_refused_also_after_a_wait(relay: Relay, pool: ThreadPoolExecutor) -> None:
    form = {"type": "json_object"}
    waits = pool.submit(
        httpx.post, relay.url + CHAT, json={"messages": HELLO, "stream": True, "response_format": form}
    )
    wait_until(lambda: relay.metric("rhapsode_jobs_queued") == 1, "it waits for the worker")
    with FakeWorker(relay.socket):
        assert assert_error(waits.result(), 400, "unsupported")["param"] == "response_format"
        now = ask_whole(relay, response_format=form)
        assert assert_error(now, 400, "unsupported")["param"] == "response_format"

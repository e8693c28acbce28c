"""Vercel's `useChat`: what its transport sends and what it gets."""

from typing import Any

import httpx
import pytest

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay
from support.requests import assert_error
from support.streams import Stream, ask, resume
from support.turns import INTENTS, NARRATIVE, sitting
from support.uis import CHAT, chat, kinds_of, message, of_kind, rest, text_of, until, verify_message

BODY = {"id": "c", "messages": [message("hello")], "trigger": "submit-message"}


def test_a_message_is_told_from_its_start_to_its_end(relay: Relay, worker: FakeWorker) -> None:
    with chat(relay.port, headers={"X-Request-Id": "another"}) as stream:
        job = worker.serve("Hel", "lo — ", "ünder\n")
        said = rest(stream)
    verify_message(said)
    assert [kind for kind in kinds_of(said) if kind not in ("data-narration", "data-metrics")] == [
        "start", "start-step", "data-queued", "data-started", "text-start", "text-delta", "text-end",
        "finish-step", "finish", "[DONE]",
    ]  # fmt: skip
    assert text_of(said) == "Hello — ünder\n"
    assert said[0]["messageId"] == job.job_id
    assert said[0]["messageMetadata"] == {"job_id": job.job_id, "correlation_id": "chat-1"}
    metadata = of_kind(said, "finish")[0]["messageMetadata"]
    assert (metadata["stop_reason"], metadata["model"], metadata["text_len"]) == ("stop", "sim", 14)
    assert metadata["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert all(one["transient"] for one in said if one["type"].startswith("data-"))
    assert stream.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert job.correlation_id == stream.headers["x-correlation-id"] == "chat-1", "a chat has one id, to come back by"


def test_the_model_is_told_the_texts_of_a_chat(relay: Relay, worker: FakeWorker) -> None:
    answered = [
        {"type": "step-start"}, {"type": "reasoning", "text": "hm"}, {"type": "data-outcome", "data": {"a": 1}},
        {"type": "text", "text": "b", "state": "done"}, {"type": "tool-x", "toolCallId": "1", "state": "done"},
        {"type": "file", "url": "u", "mediaType": "image/png"}, {"type": "text", "text": "c"},
    ]  # fmt: skip
    noted = [{"type": "text", "text": "d"}, {"type": "data-mood", "data": "calm"}, {"type": "text", "text": "e"}]
    messages = [message("s", "system"), message("a"), message("", "assistant"),
                {"id": "2", "role": "assistant", "parts": answered}, {"id": "3", "role": "user", "parts": noted}]  # fmt: skip
    with chat(relay.port, *messages, max_tokens=9, temperature=0.5, theirs={"any": 1}, model="sim") as stream:
        asked = worker.serve("ok")
        rest(stream)
    assert [(one.role, one.content) for one in asked.messages or []] == [
        ("system", "s"), ("user", "a"), ("assistant", "bc"), ("user", "de"),
    ]  # fmt: skip
    assert (asked.max_tokens, asked.temperature) == (9, 0.5)


def test_an_answer_may_be_as_long_as_the_context(relay: Relay, worker: FakeWorker) -> None:
    with chat(relay.port) as stream:
        assert worker.serve("ok").max_tokens == 100_000
        rest(stream)


@pytest.mark.parametrize(("trigger", "same"), [("submit-message", True), ("regenerate-message", False)])
def test_a_message_that_goes_on_keeps_its_id(relay: Relay, worker: FakeWorker, trigger: str, same: bool) -> None:
    said_before = message("a", "assistant", id="theirs")
    with chat(relay.port, message("q"), said_before, trigger=trigger) as stream:
        job = worker.serve("ok")
        assert rest(stream)[0]["messageId"] == ("theirs" if same else job.job_id)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ([], "invalid_request", None),
        ({}, "invalid_request", None),
        (BODY | {"id": ""}, "invalid_request", "id"),
        (BODY | {"id": "x" * 1025}, "invalid_request", "id"),
        (BODY | {"id": None}, "invalid_request", "id"),
        (BODY | {"messages": []}, "invalid_request", "messages"),
        (BODY | {"messages": [message("", "assistant")]}, "invalid_request", "messages"),
        (BODY | {"messages": [message("a", "tool")]}, "invalid_request", "messages[0].role"),
        (BODY | {"messages": [{"role": "user", "content": "a"}]}, "invalid_request", "messages[0]"),
        (BODY | {"trigger": "resume-stream"}, "invalid_request", "trigger"),
        (BODY | {"tools": [{}]}, "unsupported", "tools"),
        (BODY | {"stop": ["a"] * 5}, "invalid_request", "stop"),
        (
            BODY | {"messages": [{"role": "user", "parts": [{"type": "file", "url": "data:,x", "mediaType": "a/b"}]}]},
            "unsupported", "messages[0].parts[0].type",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(shared: Relay, body: Any, code: str, param: str | None) -> None:
    error = assert_error(httpx.post(f"{shared.url}{CHAT}", json=body), 400, code)
    assert error.get("param") == param


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"id":"\xff"}', b'{"x":' + b"[" * 100_000])
def test_what_is_no_json_is_refused(shared: Relay, content: bytes) -> None:
    assert_error(httpx.post(f"{shared.url}{CHAT}", content=content), 400, "invalid_json")


def test_another_model_is_not_found(shared: Relay) -> None:
    assert_error(httpx.post(f"{shared.url}{CHAT}", json=BODY | {"model": "other"}), 404, "model_not_found")


def test_a_page_sees_the_worker_load(relay: Relay) -> None:
    with chat(relay.port) as stream:
        until(stream, "start-step")
        with FakeWorker(relay.socket, ready=False) as worker:
            worker.send(frames.State(phase="loading"))
            worker.send(frames.Narration(actor="engine", action="load_weights", human="Loading", level="info"))
            until(stream, "data-narration", 2)
            worker.send(frames.State(phase="ready", caps=frames.Caps(slots=1, context_tokens=100)))
            worker.serve("a")
            said = rest(stream)
    verify_message(said)
    assert "Loading" in [one["data"]["human"] for one in of_kind(said, "data-narration")]
    assert text_of(said) == "a"


def test_an_engine_that_fails_in_mid_sentence_is_shown(relay: Relay, worker: FakeWorker) -> None:
    with chat(relay.port) as stream:
        job = worker.begin()
        worker.speak(job, "a", "b")
        worker.send(frames.Error(job_id=job.job_id, code="engine_crashed", message="it crashed", retryable=True))
        said = rest(stream)
    verify_message(said)
    assert [one["type"] for one in said[-3:]] == ["text-end", "error", "[DONE]"]
    assert said[-2]["errorText"] == "it crashed"
    assert of_kind(said, "data-error")[0]["data"]["error"]["code"] == "engine_crashed"
    assert text_of(said) == "ab"


def test_narration_can_be_left_out(relay: Relay, worker: FakeWorker) -> None:
    with chat(relay.port, narration=False) as stream:
        worker.serve("a")
        assert not of_kind(rest(stream), "data-narration")


def test_any_job_can_be_read_as_a_message_from_its_beginning(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port, headers={"X-Correlation-Id": "c-1"}) as stream:
        job = worker.begin()
        worker.speak(job, "a", "b")
        stream.next("token")
        with resume(relay.port, job.job_id, f"{job.job_id}-x-3", query="?format=vercel") as late:
            until(late, "text-delta")
            worker.speak(job, "c", start=2)
            worker.finish(job, 3)
            said = rest(late)
    verify_message(said)
    assert (said[0]["messageId"], text_of(said)) == (job.job_id, "abc")
    assert late.headers["x-vercel-ai-ui-message-stream"] == "v1"


def test_head_does_not_hold_a_stream_open(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port):
        job = worker.begin()
        for name in ("agui", "vercel", "native"):
            answer = httpx.head(f"{relay.url}/v1/inference/{job.job_id}/stream?format={name}")
            assert (answer.status_code, answer.headers["x-job-id"]) == (200, job.job_id)
        worker.finish(job, 0)


def test_a_turn_can_be_read_as_a_message() -> None:
    headers = {"Accept": "text/event-stream"}
    body = {"contract": "tale", "inputs": {"action": "open", "campaign": "c"}, "policy": {"memory": True}}
    with sitting() as table:
        path = "/v1/turns?format=vercel"
        with Stream(table.relay.port, path, method="POST", body=body, headers=headers) as stream:
            table.play()
            said = rest(stream)
    verify_message(said)
    assert text_of(said) == "".join(NARRATIVE)
    assert of_kind(said, "data-outcome")[0]["data"]["intents"] == INTENTS
    assert [one["data"]["status"] for one in of_kind(said, "data-write")] == ["written", "written"]
    metadata = of_kind(said, "finish")[0]["messageMetadata"]
    assert "outcome" not in metadata
    assert [one["status"] for one in metadata["writes"]] == ["written", "written"]

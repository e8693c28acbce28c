"""`POST /v1/responses`: what is answered and in which order, and what is refused."""

from typing import Any

import httpx
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
)

SPOKEN = [
    "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
    "output_item.done",
]  # fmt: skip


def finish(worker: FakeWorker, job: frames.Generate, why: frames.StopReason, tokens: int) -> None:
    worker.send(
        frames.Finish(job_id=job.job_id, stop_reason=why, tokens_out=tokens, prompt_tokens=3, decode_time_ms=1)
    )


def shown(relay: Relay, response_id: str) -> dict[str, Any]:
    """Return a response as it is now."""
    body: dict[str, Any] = relay.get(f"/v1/responses/{response_id}").json()
    return body


def test_a_stream_has_openai_s_events_in_openai_s_order(relay: Relay, worker: FakeWorker) -> None:
    with create_stream(relay.port, model="sim", temperature=0.5, metadata={"a": "b"}) as stream:
        worker.serve("Ü", "b\n", "\u2028c")
        events = stream.rest()
    assert kinds_of(events) == ["created", "in_progress", *SPOKEN, "completed"]
    assert_numbered(events)
    assert delta_text(events) == "Üb\n\u2028c"
    assert b"id:" not in stream.raw
    assert b"retry:" not in stream.raw
    assert b"[DONE]" not in stream.raw
    whole = events[-1].data["response"]
    job_id = stream.headers["x-job-id"]
    assert (whole["id"], whole["status"], whole["model"]) == (f"resp_{job_id}", "completed", "sim")
    assert whole["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 6,
    }
    assert (whole["temperature"], whole["metadata"], whole["background"]) == (0.5, {"a": "b"}, False)
    assert shown(relay, whole["id"]) == whole


def test_every_delta_is_of_the_one_part_of_the_one_message(relay: Relay, worker: FakeWorker) -> None:
    with create_stream(relay.port) as stream:
        worker.serve("a", "b")
        events = stream.rest()
    item = events[-1].data["response"]["output"][0]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert item["content"] == [{"type": "output_text", "text": "ab", "annotations": [], "logprobs": []}]
    assert {event.data["item_id"] for event in events if "item_id" in event.data} == {item["id"]}
    assert [event.data["item"] for event in events if event.name == "response.output_item.done"] == [item]


def test_who_has_to_wait_is_told(relay: Relay) -> None:
    with FakeWorker(relay.socket, slots=1) as worker, create_stream(relay.port) as first:
        job = worker.begin()
        first.next("response.in_progress")
        with create_stream(relay.port) as second:
            assert second.next().data["response"]["status"] == "queued"
            assert second.next().name == "response.queued"
            assert shown(relay, f"resp_{second.headers['x-job-id']}")["status"] == "queued"
            finish(worker, job, "stop", 0)
            worker.serve("a")
            events = second.rest()
    assert kinds_of(events) == ["in_progress", *SPOKEN, "completed"]
    assert_numbered(events, 2)


def test_an_answer_without_a_word_has_an_empty_message(relay: Relay, worker: FakeWorker) -> None:
    with create_stream(relay.port) as stream:
        worker.serve()
        events = stream.rest()
    spoken = [kind for kind in SPOKEN if kind != "output_text.delta"]
    assert kinds_of(events) == ["created", "in_progress", *spoken, "completed"]
    assert events[-1].data["response"]["output"][0]["content"][0]["text"] == ""


def test_an_answer_that_is_cut_off_is_incomplete(relay: Relay, worker: FakeWorker) -> None:
    with create_stream(relay.port, max_output_tokens=2) as stream:
        job = worker.begin()
        assert job.max_tokens == 2
        worker.speak(job, "a", "b")
        finish(worker, job, "length", 2)
        events = stream.rest()
    assert kinds_of(events)[-2:] == ["output_item.done", "incomplete"]
    whole = events[-1].data["response"]
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert whole["output"][0]["status"] == "incomplete"
    assert whole["max_output_tokens"] == 2


def test_a_failure_is_the_last_event_and_what_there_was_is_kept(relay: Relay) -> None:
    with FakeWorker(relay.socket) as worker, create_stream(relay.port) as stream:
        worker.speak(worker.begin(), "a")
        stream.next("response.output_text.delta")
        worker.close()
        events = stream.rest()
    assert [event.name for event in events] == ["response.failed"]
    failed = events[0].data["response"]
    assert (failed["status"], failed["output"][0]["status"]) == ("failed", "incomplete")
    assert failed["output"][0]["content"][0]["text"] == "a"
    assert (failed["error"]["code"], failed["error"]["type"]) == ("server_error", "worker_lost")
    assert shown(relay, failed["id"]) == failed


def test_without_a_stream_the_answer_is_the_whole_response(relay: Relay, worker: FakeWorker) -> None:
    answer = create_while(relay, lambda: worker.serve("a", "b"))
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["output"][0]["content"][0]["text"]) == ("completed", "ab")
    assert body["id"] == f"resp_{answer.headers['x-job-id']}"
    assert shown(relay, body["id"]) == body


def test_a_failure_that_was_waited_for_has_a_status(relay: Relay) -> None:
    worker = FakeWorker(relay.socket)

    def die() -> None:
        worker.speak(worker.begin(), "a")
        worker.close()

    assert_error(create_while(relay, die), 503, "worker_lost", retryable=True)


def test_the_worker_is_told_what_was_asked(relay: Relay) -> None:
    with FakeWorker(relay.socket, json_schema=True) as worker:
        asked = [
            {"role": "developer", "content": "be brief"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
             "content": [{"type": "output_text", "text": "b", "annotations": []}]},
            {"role": "user", "content": "c"},
        ]  # fmt: skip
        schema = {"type": "object", "properties": {}}
        wishes = {
            "instructions": "be kind", "max_output_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 4,
            "seed": 7, "stop": ["END"], "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}},
            "store": False, "user": "me", "reasoning": {"effort": "low"}, "tools": [], "tool_choice": "auto",
            "include": ["reasoning.encrypted_content"], "truncation": "auto", "previous_response_id": None,
        }  # fmt: skip
        answer = create(relay, asked, background=True, **wishes)
        job = worker.receive(frames.Generate)
    assert answer.json()["text"] == {"format": {"type": "json_schema", "name": "n", "schema": {}}}
    assert job.messages == [
        frames.Message(role="system", content="be kind"),
        frames.Message(role="system", content="be brief"),
        frames.Message(role="user", content="a"),
        frames.Message(role="assistant", content="b"),
        frames.Message(role="user", content="c"),
    ]
    assert (job.max_tokens, job.temperature, job.top_p, job.top_k, job.seed) == (5, 0.5, 0.9, 4, 7)
    assert (job.stop, job.json_schema) == (["END"], schema)


@pytest.mark.parametrize(
    ("wishes", "param", "code"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported"),
        ({"conversation": {"id": "c"}}, "conversation", "unsupported"),
        ({"prompt": {"id": "p"}}, "prompt", "unsupported"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_request"),
        ({"top_logprobs": 2}, "top_logprobs", "unsupported"),
        ({"include": ["message.output_text.logprobs"]}, "include", "unsupported"),
        ({"asked": [{"type": "item_reference", "id": "x"}]}, "input[0].type", "unsupported"),
        ({"asked": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id", "invalid_request"),
        (
            {"asked": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0].type",
            "unsupported",
        ),
        ({"asked": [{"content": "x"}]}, "input[0].role", "invalid_request"),
        ({"asked": [{"role": "boss", "content": "x"}]}, "input[0].role", "invalid_request"),
        ({"asked": []}, "input", "invalid_request"),
        ({"asked": None}, "input", "invalid_request"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_request"),
        ({"temperature": 3}, "temperature", "invalid_request"),
        ({"narration": "chunk"}, "narration", "invalid_request"),
        ({"metadata": {"a": 1}}, "metadata[...]", "invalid_request"),
        ({"metadata": {"a": "b" * 513}}, "metadata[...]", "invalid_request"),
        ({"metadata": {str(key): "\x01" * 512 for key in range(16)}}, "metadata", "invalid_request"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "invalid_request"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_request"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format", "unsupported"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_openai_s_name(
    shared: Relay, wishes: dict[str, Any], param: str, code: str
) -> None:
    for streamed in (False, True):
        assert assert_error(create(shared, stream=streamed, **wishes), 400, code)["param"] == param


def test_another_model_is_not_found(shared: Relay) -> None:
    assert assert_error(create(shared, model="gpt-9"), 404, "model_not_found")["param"] == "model"


# Idempotency


def test_the_same_key_is_the_same_response(relay: Relay, worker: FakeWorker) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = (create(relay, background=True, headers=key) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    other = httpx.post(f"{relay.url}/v1/inference", content=first.request.content, headers=key)
    assert other.status_code in (400, 422)


def test_a_key_of_another_protocol_is_refused(relay: Relay, worker: FakeWorker) -> None:
    key = {"Idempotency-Key": "k"}
    body = {"prompt": None, "input": "a", "messages": [{"role": "user", "content": "a"}], "background": True}
    assert httpx.post(f"{relay.url}/v1/inference", json=body, headers=key).status_code == 202
    refused = httpx.post(f"{relay.url}/v1/responses", json=body, headers=key)
    assert_error(refused, 422, "idempotency_key_reused")


# Narration


def test_narration_comes_only_to_who_asked_and_has_no_number_of_its_own(relay: Relay, worker: FakeWorker) -> None:
    with create_stream(relay.port, narration="event") as stream:
        worker.serve("a")
        events = stream.rest()
    told = [event for event in events if event.name == "relay.narration"]
    assert "accepted" in [event.data["narration"]["action"] for event in told]
    for event in told:
        before = events[events.index(event) - 1]
        assert event.data["sequence_number"] == before.data["sequence_number"]
    assert_numbered([event for event in events if event not in told])
    with create_stream(relay.port) as stream:
        worker.serve("a")
        assert b"narration" not in stream.raw + b"".join(event.raw for event in stream.rest())
    assert id_of(events).startswith("resp_")

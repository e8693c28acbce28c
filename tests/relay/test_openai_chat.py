"""Conversations as OpenAI's clients know them: streamed or whole, the same text."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import pytest

from rhapsode_contract import frames
from rhapsode_contract.openai import ChatCompletion
from support.chats import ask_whole, chat, finish
from support.fake_worker import FakeWorker
from support.processes import Relay
from support.requests import assert_error

HARD = ["Hé", "llo 東京 🌅", "\u2028\u2029\x85", '"\\', "\n\n", "data: [DONE]\n\n", "\x7f", "\x00"]


# Streamed


def test_a_streamed_answer_is_chunks_and_done(relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor) -> None:
    asked = pool.submit(chat, relay.port, model="sim")
    job = worker.serve("a", "b")
    with asked.result() as stream:
        said = finish(stream)
    role, *texts, last = said.chunks
    assert role["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert [chunk["choices"][0]["delta"] for chunk in texts] == [{"content": "a"}, {"content": "b"}]
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in said.chunks} == {
        (f"chatcmpl-{job.job_id}", "sim", role["created"])
    }
    assert (said.done, stream.ended, said.comments) == (True, True, [])
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["x-accel-buffering"] == "no"
    assert stream.headers["x-job-id"] == job.job_id
    assert stream.headers["x-request-id"] == stream.headers["x-correlation-id"]
    for line in stream.raw.splitlines():
        assert not line.startswith((b"id:", b"event:", b"retry:"))


def test_usage_comes_last_and_only_if_asked(relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor) -> None:
    asked = pool.submit(chat, relay.port, stream_options={"include_usage": True})
    worker.serve("a", "b")
    said = finish(asked.result())
    asked.result().close()
    assert said.chunks[-1]["choices"] == []
    assert said.chunks[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert all(chunk["usage"] is None for chunk in said.chunks[:-1])


@pytest.mark.parametrize("streamed", [True, False])
def test_hard_text_comes_through_as_it_is(
    relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor, streamed: bool
) -> None:
    asked: Any = pool.submit(chat, relay.port) if streamed else pool.submit(ask_whole, relay)
    job = worker.begin()
    for i, text in enumerate(HARD):
        worker.send(frames.Token(job_id=job.job_id, i=i, t=text))
    worker.finish(job, len(HARD))
    answer = asked.result()
    if streamed:
        assert finish(answer).text == "".join(HARD)
        answer.close()
    else:
        assert answer.json()["choices"][0]["message"]["content"] == "".join(HARD)


def test_tokens_that_only_make_sense_together_are_one_chunk(
    relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor
) -> None:
    asked = pool.submit(chat, relay.port)
    job = worker.begin()
    worker.send(
        frames.Token(job_id=job.job_id, i=0, t="東", count=3), frames.Token(job_id=job.job_id, i=3, ts="a\x7fb")
    )
    worker.finish(job, 5)
    assert finish(asked.result()).text == "東ab"
    asked.result().close()


def test_an_answer_of_nothing_is_an_answer(relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor) -> None:
    asked = pool.submit(chat, relay.port)
    worker.serve()
    said = finish(asked.result())
    asked.result().close()
    assert ([one["choices"][0]["delta"] for one in said.chunks], said.finish_reason, said.done) == (
        [{"role": "assistant", "content": ""}, {}],
        "stop",
        True,
    )


# Whole


def test_a_whole_answer_is_one_object(relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor) -> None:
    asked = pool.submit(ask_whole, relay, headers={"X-Request-Id": "turn-7"})
    job = worker.serve("a", "b")
    answer = asked.result()
    body = answer.json()
    msgspec.convert(body, ChatCompletion)
    assert body | {"created": 0} == {
        "id": f"chatcmpl-{job.job_id}",
        "object": "chat.completion",
        "created": 0,
        "model": "sim",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "ab", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    assert (answer.headers["x-job-id"], answer.headers["x-request-id"]) == (job.job_id, "turn-7")
    assert job.correlation_id == "turn-7"


@pytest.mark.parametrize("streamed", [True, False])
def test_a_limit_that_was_reached_is_a_length(
    relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor, streamed: bool
) -> None:
    asked: Any = pool.submit(chat, relay.port) if streamed else pool.submit(ask_whole, relay)
    job = worker.begin()
    worker.speak(job, "a")
    worker.send(frames.Finish(job_id=job.job_id, stop_reason="length", tokens_out=1))
    answer = asked.result()
    if streamed:
        assert finish(answer).finish_reason == "length"
        answer.close()
    else:
        assert answer.json()["choices"][0]["finish_reason"] == "length"


def test_a_whole_answer_that_fails_is_an_error(relay: Relay, pool: ThreadPoolExecutor) -> None:
    with FakeWorker(relay.socket) as worker:
        asked = pool.submit(ask_whole, relay)
        worker.speak(worker.begin(), "a")
        worker.close()
        answer = asked.result()
        assert_error(answer, 503, "worker_lost", retryable=True)
        assert answer.headers["x-should-retry"] == "true"


def test_one_that_is_cancelled_elsewhere_is_a_conflict_that_nobody_repeats(
    relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor
) -> None:
    asked = pool.submit(ask_whole, relay)
    job = worker.begin()
    httpx.delete(f"{relay.url}/v1/inference/{job.job_id}")
    answer = asked.result()
    assert_error(answer, 409, "cancelled")
    assert answer.headers["x-should-retry"] == "false"


# Models


def test_the_one_model_is_listed_and_found(shared: Relay) -> None:
    model = {"id": "sim", "object": "model", "created": 0, "owned_by": "rhapsode"}
    assert shared.get("/v1/models").json() == {"object": "list", "data": [model]}
    assert shared.get("/v1/models/sim").json() == model
    for other in ("other", "some/one", "sim/"):
        assert_error(shared.get(f"/v1/models/{other}"), 404, "model_not_found")

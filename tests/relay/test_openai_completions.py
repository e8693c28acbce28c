"""Texts that go on from a prompt, as OpenAI's older clients know them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from rhapsode_contract import frames
from rhapsode_contract.openai import Completion
from support.chats import TEXT, ask_whole, chat, finish
from support.fake_worker import FakeWorker
from support.processes import Relay
from support.requests import assert_error


def test_a_streamed_text_is_chunks_and_done(relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor) -> None:
    asked = pool.submit(chat, relay.port, path=TEXT, stream_options={"include_usage": True})
    job = worker.serve("a", "\u2028")
    with asked.result() as stream:
        said = finish(stream)
    first, second, last, usage = said.chunks
    assert first["choices"] == [{"index": 0, "text": "a", "logprobs": None, "finish_reason": None}]
    assert second["choices"][0]["text"] == "\u2028"
    assert last["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]
    assert {(chunk["id"], chunk["object"]) for chunk in said.chunks} == {(f"cmpl-{job.job_id}", "text_completion")}
    assert usage["usage"]["total_tokens"] == 5
    assert (said.text, said.done) == ("a\u2028", True)


def test_a_whole_text_is_one_object(relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor) -> None:
    asked = pool.submit(ask_whole, relay, TEXT)
    job = worker.serve("a", "b")
    body = asked.result().json()
    msgspec.convert(body, Completion)
    assert (body["id"], body["object"], body["model"]) == (f"cmpl-{job.job_id}", "text_completion", "sim")
    assert body["choices"] == [{"index": 0, "text": "ab", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert asked.result().headers["x-job-id"] == job.job_id


def test_the_worker_is_told_what_the_client_wished(
    relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor
) -> None:
    wishes: dict[str, Any] = {
        "prompt": ["once"],
        "max_tokens": 5,
        "temperature": 0,
        "stop": ["\n", "END"],
        "seed": 7,
        "best_of": 1,
    }
    asked = pool.submit(ask_whole, relay, TEXT, **wishes)
    job = worker.serve("a")
    assert asked.result().status_code == 200
    assert (job.prompt, job.messages, job.max_tokens, job.temperature) == ("once", None, 5, 0)
    assert (job.stop, job.seed, job.meta["on_disconnect"]) == (["\n", "END"], 7, "cancel")


def test_a_text_is_as_short_as_openai_s_if_nothing_is_said(
    relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor
) -> None:
    asked = pool.submit(ask_whole, relay, TEXT)
    assert worker.serve("a").max_tokens == 16
    assert asked.result().status_code == 200


def test_a_client_that_leaves_ends_its_job(relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor) -> None:
    asked = pool.submit(chat, relay.port, path=TEXT)
    job = worker.begin()
    worker.speak(job, "a")
    asked.result().close(hard=True)
    assert worker.receive(frames.Cancel).job_id == job.job_id


def test_a_prompt_that_is_too_long_has_a_status(relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor) -> None:
    for streamed in (True, False):
        asked = pool.submit(ask_whole, relay, TEXT, stream=streamed)
        job = worker.begin()
        worker.send(
            frames.Error(job_id=job.job_id, code="context_length_exceeded", message="too long", param="prompt")
        )
        assert assert_error(asked.result(), 400, "context_length_exceeded")["param"] == "prompt"


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"n": 2}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"logprobs": 0}, "logprobs"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": []}, "prompt"),
    ],
)
def test_what_would_silently_change_the_text_is_refused_by_name(
    shared: Relay, wish: dict[str, Any], param: str
) -> None:
    assert assert_error(ask_whole(shared, TEXT, **wish), 400, "unsupported")["param"] == param


@pytest.mark.parametrize(
    ("wish", "param"),
    [({"prompt": None}, "prompt"), ({"max_tokens": -1}, "max_tokens"), ({"stop": [""]}, "stop[0]")],
)
def test_a_wish_that_cannot_be_is_refused_by_name(shared: Relay, wish: dict[str, Any], param: str) -> None:
    assert assert_error(ask_whole(shared, TEXT, **wish), 400, "invalid_request")["param"] == param

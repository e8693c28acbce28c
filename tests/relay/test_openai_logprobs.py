"""How probable tokens were, as OpenAI's clients are told: an entry for each token, whatever they came in."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from rhapsode_contract import frames
from support.chats import CHAT, HELLO, TEXT, Told, ask_whole, chat, finish, until
from support.fake_worker import FakeWorker
from support.processes import Relay, free_port, manifest, wait_until
from support.requests import assert_error
from support.streams import ask, resume

SAID = [(" caf", (-0.5,)), ("é🌅", (-1.0, -2.5, -9999.0)), ("!", (0.0,))]
"""Texts and their tokens' probabilities: the second text takes three tokens."""
ENTRIES = [(" caf", -0.5), ("", -1.0), ("", -2.5), ("é🌅", -9999.0), ("!", 0.0)]
OFFSETS = [0, 4, 4, 4, 6]
WISH: dict[str, dict[str, Any]] = {CHAT: {"logprobs": True, "top_logprobs": 0}, TEXT: {"logprobs": 0}}


def send(worker: FakeWorker, job: frames.Generate, said: list[tuple[str, tuple[float, ...]]], i: int = 0) -> None:
    for text, logprobs in said:
        worker.send(frames.Token(job_id=job.job_id, i=i, t=text, count=len(logprobs), lp=logprobs))
        i += len(logprobs)


def serve(worker: FakeWorker) -> frames.Generate:
    job = worker.begin()
    send(worker, job, SAID)
    worker.finish(job, 5)
    return job


def choices(told: Told) -> list[dict[str, Any]]:
    """Return the choices that have a text."""
    found = [one for chunk in told.chunks for one in chunk["choices"]]
    return [one for one in found if (one["text"] if "text" in one else one["delta"].get("content"))]


def check_chat(content: list[dict[str, Any]]) -> None:
    assert [(one["token"], one["logprob"]) for one in content] == ENTRIES
    assert bytes(byte for one in content for byte in one["bytes"]) == " café🌅!".encode()
    assert all(one["top_logprobs"] == [] for one in content)


def test_a_conversation_is_told_token_by_token(relay: Relay) -> None:
    with FakeWorker(relay.socket, logprobs=True) as worker, chat(relay.port, later=True, **WISH[CHAT]) as stream:
        job = serve(worker)
        said = choices(finish(stream))
    assert job.logprobs
    assert [one["delta"]["content"] for one in said] == [text for text, _ in SAID]
    assert all(one["logprobs"]["refusal"] is None for one in said)
    check_chat([entry for one in said for entry in one["logprobs"]["content"]])


def test_a_text_is_told_token_by_token(relay: Relay) -> None:
    with (
        FakeWorker(relay.socket, logprobs=True) as worker,
        chat(relay.port, later=True, path=TEXT, **WISH[TEXT]) as stream,
    ):
        serve(worker)
        said = [one["logprobs"] for one in choices(finish(stream))]
    told = [pair for one in said for pair in zip(one["tokens"], one["token_logprobs"], strict=True)]
    assert told == ENTRIES
    assert [at for one in said for at in one["text_offset"]] == OFFSETS
    assert {one["top_logprobs"] for one in said} == {None}


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_an_answer_that_comes_whole_has_them_all(relay: Relay, pool: ThreadPoolExecutor, path: str) -> None:
    with FakeWorker(relay.socket, logprobs=True) as worker:
        asked = pool.submit(ask_whole, relay, path, {"Idempotency-Key": "k"}, **WISH[path])
        serve(worker)
        first = asked.result().json()
        again = ask_whole(relay, path, {"Idempotency-Key": "k"}, **WISH[path])
    logprobs = first["choices"][0]["logprobs"]
    if path == CHAT:
        check_chat(logprobs["content"])
    else:
        assert list(zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)) == ENTRIES
        assert (logprobs["text_offset"], logprobs["top_logprobs"]) == (OFFSETS, None)
    assert again.json() == first
    assert again.headers["idempotent-replayed"] == "true"


def test_narration_rides_on_a_chunk_with_probabilities_as_on_any(relay: Relay) -> None:
    with (
        FakeWorker(relay.socket, logprobs=True) as worker,
        chat(relay.port, narration="chunk", **WISH[CHAT]) as stream,
    ):
        job = worker.begin()
        send(worker, job, SAID[:1])
        until(stream, b"caf")
        worker.send(frames.Narration(human="Singing", action="sing", job_id=job.job_id))
        send(worker, job, SAID[1:], 1)
        worker.finish(job, 5)
        told = finish(stream)
    check_chat([entry for one in choices(told) for entry in one["logprobs"]["content"]])
    assert "Singing" in {one["human"] for one in told.narrations}


def test_who_asks_for_none_is_told_none(relay: Relay) -> None:
    with FakeWorker(relay.socket, logprobs=True) as worker, chat(relay.port, later=True, logprobs=False) as stream:
        assert not worker.serve("a").logprobs
        assert all("logprobs" not in one for one in choices(finish(stream)))


@pytest.mark.parametrize(
    ("path", "wish", "param"),
    [
        (CHAT, {"logprobs": True, "top_logprobs": 1}, "top_logprobs"),
        (TEXT, {"logprobs": 1}, "logprobs"),
        (TEXT, {"logprobs": True}, "logprobs"),
        (CHAT, {"logprobs": True, "tools": [{"type": "function", "function": {"name": "f"}}]}, "logprobs"),
    ],
)
def test_more_than_the_chosen_tokens_is_refused_by_name(
    relay: Relay, path: str, wish: dict[str, Any], param: str
) -> None:
    with FakeWorker(relay.socket, logprobs=True, tools=True):
        answer = ask_whole(relay, path, **wish)
    assert assert_error(answer, 400, "unsupported")["param"] == param


def test_a_wish_of_another_kind_is_refused(shared: Relay) -> None:
    assert assert_error(ask_whole(shared, logprobs="yes"), 400, "invalid_request")["param"] == "logprobs"


def test_our_own_streams_have_them_beside_each_token_also_when_read_again(relay: Relay) -> None:
    with FakeWorker(relay.socket, logprobs=True) as worker, ask(relay.port, HELLO, logprobs=True) as stream:
        job = serve(worker)
        tokens = [event.data for event in stream.rest() if event.name == "token"]
        with resume(relay.port, job.job_id, f"{job.job_id}-none-1") as again:
            assert again.next("snapshot").data["text"] == " café🌅!"
    assert [(one["t"], tuple(one["logprobs"])) for one in tokens] == SAID
    assert [one.get("count", 1) for one in tokens] == [1, 3, 1]


@pytest.mark.parametrize("logprobs", [(-0.5,), (-0.5, -0.5, -0.5)])
def test_a_worker_that_tells_another_number_of_them_is_stopped(relay: Relay, logprobs: tuple[float, ...]) -> None:
    with FakeWorker(relay.socket, logprobs=True) as worker, ask(relay.port, logprobs=True) as stream:
        job = worker.begin()
        worker.send(frames.Token(job_id=job.job_id, i=0, t="ab", count=2, lp=logprobs))
        error = stream.until("error")[-1].data["error"]
        assert worker.receive(frames.Cancel).job_id == job.job_id
    assert (error["code"], error["partial"]) == ("engine_error", False)


def test_after_a_relay_was_killed_new_tokens_have_them_and_an_answer_that_lacks_some_says_so(tmp_path: Path) -> None:
    """The worker's side of it is in `test_telling_parts`: such a job's text comes in frames, all of it."""
    ports = free_port(), free_port()
    key = {"Idempotency-Key": "k"}
    first = Relay(manifest(), tmp_path, *ports)
    with ThreadPoolExecutor() as pool, FakeWorker(first.socket, logprobs=True) as worker:
        asked = pool.submit(ask_whole, first, CHAT, key, **WISH[CHAT])
        job = worker.begin()
        first.send(signal.SIGKILL)
        first.wait()
        assert isinstance(asked.exception(), httpx.HTTPError)
    first.close()
    second = Relay(manifest(), tmp_path, *ports)
    try:
        held = [frames.JobState(job_id=job.job_id, meta=dict(job.meta))]
        with FakeWorker(second.socket, logprobs=True, jobs=held) as again:
            send(again, job, SAID[:2])
            wait_until(lambda: second.get(f"/v1/inference/{job.job_id}").json()["tokens_out"] == 4, "it came back")
            with resume(second.port, job.job_id) as stream:
                assert stream.next("snapshot").data["text"] == " café🌅"
                send(again, job, SAID[2:], 4)
                again.finish(job, 5)
                assert stream.next("token").data["logprobs"] == [0.0]
            error = assert_error(ask_whole(second, CHAT, key, **WISH[CHAT]), 410, "replay_window_exceeded")
        assert error["param"] == "logprobs"
    finally:
        second.close()

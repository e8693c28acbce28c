"""A request for which the engine takes too long is ended, told so, and counted; waiting for the engine is not its time."""

import itertools
import logging
import time
from typing import NamedTuple

import pytest

from rhapsode_contract import frames
from rhapsode_contract.requests import InferenceRequest
from rhapsode_contract.validating import decode_manifest
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.patience import Course, Late, Patience
from rhapsode_relay.settings import RelaySettings
from rhapsode_relay.timing_out import Timekeeper
from support.conversations import Conversation, conversing
from support.fake_worker import FakeWorker
from support.processes import Relay, manifest, running_relay, wait_until
from support.requests import assert_error, exchange, post
from support.streams import Event, Stream, actions_of, ask, text_of
from support.turns import sitting


def ended(talk: Conversation, job: frames.Generate, code: str, what: str, seconds: int) -> list[Event]:
    """Read to the end of a stream that took too long, and return it: all that is told of it must be there."""
    seen = talk.stream.rest()
    assert [event.name for event in seen[-2:]] == ["error", "done"]
    error = seen[-2].data
    assert (error["error"]["code"], error["retryable"]) == (code, True)
    assert error["error"]["message"] == f"{what} took longer than {seconds} s; send the request again"
    assert "timed_out" in actions_of(seen)
    cancel = talk.worker.receive(frames.Cancel)
    assert (cancel.job_id, cancel.reason) == (job.job_id, code)
    assert talk.relay.metric(f'rhapsode_jobs_timed_out_total{{code="{code}"}}') == 1
    assert talk.relay.wait_record("timed_out")["fields"]["what"] == what
    return seen


def test_an_engine_that_says_nothing_is_given_up() -> None:
    with conversing(limits={"firstTokenSeconds": 1}) as talk:
        seen = ended(talk, talk.worker.begin(), "first_token_timeout", "the first token", 1)
        assert seen[-2].data["error"]["partial"] is False


def test_so_is_one_that_does_not_even_begin() -> None:
    with conversing(limits={"firstTokenSeconds": 1}) as talk:
        job = talk.worker.receive(frames.Generate)
        ended(talk, job, "first_token_timeout", "the first token", 1)


def test_an_engine_that_falls_silent_is_given_up() -> None:
    with conversing(limits={"idleSeconds": 1}) as talk:
        job = talk.worker.begin()
        talk.worker.speak(job, "a", "b")
        seen = ended(talk, job, "idle_timeout", "the next token", 1)
        assert text_of(seen) == "ab"
        assert seen[-2].data["error"]["partial"] is True


def test_an_answer_that_never_ends_is_ended() -> None:
    with conversing(limits={"totalSeconds": 2, "idleSeconds": 60}) as talk:
        job = talk.worker.begin()
        said = itertools.count()

        def over() -> bool:
            talk.worker.speak(job, "x", start=next(said))
            return talk.relay.metric('rhapsode_jobs_timed_out_total{code="total_timeout"}') == 1

        wait_until(over, "its time is over", pause_s=0.1)
        ended(talk, job, "total_timeout", "the answer", 2)


def test_the_slot_of_what_was_given_up_is_free_when_the_engine_says_so() -> None:
    with conversing(limits={"firstTokenSeconds": 1}) as talk:
        job = talk.worker.begin()
        ended(talk, job, "first_token_timeout", "the first token", 1)
        assert talk.relay.metric("rhapsode_jobs_running") == 1
        talk.worker.send(
            frames.Finish(job_id=job.job_id, stop_reason="cancelled", tokens_out=0, prompt_tokens=3, decode_time_ms=0)
        )
        wait_until(lambda: talk.relay.metric("rhapsode_jobs_running") == 0, "the slot is free")


def heartbeats(stream: Stream, count: int) -> None:
    """Read until there were so many heartbeats, of one second each."""
    while stream.raw.count(b": hb\n") < count:
        assert stream.read_some()


def test_waiting_for_the_model_is_not_the_engines_time() -> None:
    resource = manifest(limits={"firstTokenSeconds": 1, "totalSeconds": 2, "idleSeconds": 1}, heartbeatSeconds=1)
    with running_relay(resource) as relay, ask(relay.port) as stream:
        heartbeats(stream, 3)
        with FakeWorker(relay.socket) as worker:
            assert worker.receive(frames.Generate).job_id == stream.headers["x-job-id"], "it still stood in line"


def test_turns_keep_to_times_of_their_own() -> None:
    limits = {"firstTokenSeconds": 1, "idleSeconds": 1, "totalSeconds": 1}
    with sitting(relay={"limits": limits, "heartbeatSeconds": 1}) as table, table.ask() as stream:
        job = table.worker.begin()
        heartbeats(stream, 3)
        table.worker.speak(job, "The ", "door.")
        heartbeats(stream, 6)
        table.worker.finish(job, 2)
        table.intend()
        assert [event.name for event in stream.rest()[-2:]] == ["end", "done"]


# Other limits


def test_readers_and_connections_are_what_the_manifest_says() -> None:
    limits = {"readersPerJob": 1, "connections": 16}
    with running_relay(manifest(limits=limits)) as relay, ask(relay.port) as stream:
        job_id = stream.headers["x-job-id"]
        with Stream(relay.port, f"/v1/inference/{job_id}/stream") as second:
            assert (second.status, second.json()["error"]["code"]) == (503, "too_many_readers")
        _fill(relay)
        assert relay.metric('rhapsode_requests_refused_total{code="too_many_readers"}') == 1


def _fill(relay: Relay) -> None:
    """Open connections until one is refused, as the next one always is."""
    opened = []
    try:
        for _ in range(20):
            opened.append(Stream(relay.port, "/v1/worker/stream"))
            if opened[-1].status == 503:
                break
        assert opened[-1].json()["error"]["code"] == "too_many_connections"
        refused = 'rhapsode_requests_refused_total{code="too_many_connections"}'
        assert relay.metric(refused) == 1
        assert relay.get("/v1/models").status_code == 503
        assert relay.metric(refused) == 2
    finally:
        for one in opened:
            one.close()


def test_whatever_is_refused_is_counted(shared: Relay) -> None:
    def refused(code: str) -> float:
        return shared.metric(f'rhapsode_requests_refused_total{{code="{code}"}}')

    assert_error(post(shared, b'{"prompt":"' + b"x" * (1024 * 1024) + b'"}'), 413, "body_too_large")
    assert exchange(shared.port, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 101 + b"\r\n").startswith(b"HTTP/1.1 431")
    assert exchange(shared.port, b"no http\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert (refused("body_too_large"), refused("headers_too_large"), refused("invalid_http")) == (1, 1, 1)


# Deciding


@pytest.mark.parametrize(
    ("tokens", "seconds", "late"),
    [
        (0, 9.9, None), (0, 10, Late("first_token_timeout", "the first token", 10)),
        (1, 14.9, None), (1, 15, Late("idle_timeout", "the next token", 5)),
        (0, 100, Late("total_timeout", "the answer", 100)), (1, 100, Late("total_timeout", "the answer", 100)),
    ],
)  # fmt: skip
def test_each_limit_has_its_word(tokens: int, seconds: float, late: Late | None) -> None:
    course = Course(began_at=0.0, tokens=0, moved_at=0.0)
    course.look(tokens, 10.0)
    assert course.late(Patience(10, 5, 100), seconds) == late


class Told(NamedTuple):
    """A worker that only listens."""

    heard: list[frames.RelayFrame]

    def send(self, frame: frames.RelayFrame) -> None:
        self.heard.append(frame)


def test_what_stands_in_line_has_all_the_time_there_is() -> None:
    house = Conductor(RelaySettings.load(decode_manifest(manifest()), {}), "e1", logging.getLogger("test"))
    keeper = Timekeeper(house, Patience(1, 1, 1))
    job, _ = house.submit(InferenceRequest(prompt="x"), "c-1", "", "")
    now = time.monotonic()
    for later in (0.0, 10.0, 100_000.0):
        keeper.look(job, now + later)
    assert not job.over
    told: list[frames.RelayFrame] = []
    house.port = Told(told)
    house.line.open(1)
    house.pump()
    for later in (100_000.0, 100_000.5):
        keeper.look(job, now + later)
    assert not job.over
    keeper.look(job, now + 100_001.0)
    assert job.error is not None
    assert job.error.code == "total_timeout"
    assert [type(frame) for frame in told] == [frames.Generate, frames.Cancel]

"""OpenAI's endpoints where there is no room: refused with a time to come back, or answered by another replica."""

import signal
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from rhapsode_contract import frames
from support.chats import ask_whole, chat, finish
from support.fake_worker import FakeWorker
from support.patience import patient
from support.processes import Relay, manifest, running_relay, wait_until
from support.replicas import Replica, replicas, worker_of
from support.requests import assert_error
from support.streams import Stream


def test_a_full_line_is_503_and_says_when() -> None:
    with running_relay(manifest(queueLimit=1)) as relay, chat(relay.port, narration="chunk"):
        for streamed in (True, False):
            answer = ask_whole(relay, stream=streamed)
            assert_error(answer, 503, "queue_full", retryable=True)
            assert answer.headers["x-should-retry"] == "true"
            assert int(answer.headers["retry-after-ms"]) == 1000 * int(answer.headers["retry-after"])


def test_the_same_key_is_the_same_answer(relay: Relay, worker: FakeWorker, pool: ThreadPoolExecutor) -> None:
    asked = pool.submit(ask_whole, relay, headers={"Idempotency-Key": "k"})
    worker.serve("once")
    again = ask_whole(relay, headers={"Idempotency-Key": "k"})
    assert again.json() == asked.result().json()
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("streamed", [True, False])
def test_a_request_that_would_wait_goes_to_who_is_ready(pool: ThreadPoolExecutor, streamed: bool) -> None:
    with replicas(2, ready=0) as two:
        worker = two[1].come()
        asked: Any = pool.submit(chat, two[0].port) if streamed else pool.submit(ask_whole, two[0].relay)
        job = worker.begin()
        assert job.job_id.startswith("sim-1-")
        worker.speak(job, "a")
        worker.finish(job, 1)
        answer = asked.result()
        assert answer.headers["x-job-id"] == job.job_id
        if streamed:
            assert finish(answer).text == "a"
            answer.close()
        else:
            assert answer.json()["choices"][0]["message"]["content"] == "a"


def test_another_replica_may_think_longer_than_it_may_take_to_answer(pool: ThreadPoolExecutor) -> None:
    """Its status waits for the first word as ours would, and nobody takes that for a replica that is gone."""
    with replicas(2, ready=0, environ=patient(peer_slack=1)) as two:
        worker = two[1].come()
        asked = wait_until(lambda: _asked_there(pool, *two), "the request goes to who is ready")
        job = worker.begin()
        time.sleep(6)  # longer than a replica may take to accept a request
        worker.speak(job, "a")
        worker.finish(job, 1)
        with asked.result() as stream:
            assert (stream.headers["x-job-id"], finish(stream).text) == (job.job_id, "a")


def _asked_there(pool: ThreadPoolExecutor, here: Replica, there: Replica) -> Future[Stream] | None:
    """Ask; None if the request stays, as it should where a machine stalls for the second that the other one has."""
    before = here.relay.metric("rhapsode_jobs_queued")
    asked = pool.submit(chat, here.port)
    wait_until(
        lambda: there.relay.metric("rhapsode_jobs_running") or here.relay.metric("rhapsode_jobs_queued") > before,
        "the request is somewhere",
    )
    if there.relay.metric("rhapsode_jobs_running"):
        return asked
    asked.add_done_callback(lambda done: done.result().close())
    return None


@pytest.mark.parametrize("streamed", [True, False])
def test_a_relay_that_ends_stays_for_an_answer_that_has_not_begun(pool: ThreadPoolExecutor, streamed: bool) -> None:
    """Else its client would be told to ask again for what another replica is already doing."""
    with replicas(2) as (ending, other):
        httpx.post(f"{ending.relay.admin_url}/v1/drain")
        asked: Any = pool.submit(chat, ending.port) if streamed else pool.submit(ask_whole, ending.relay)
        job = worker_of(other).begin()
        ending.relay.send(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            ending.relay.process.wait(2)
        worker_of(other).speak(job, "a")
        worker_of(other).finish(job, 1)
        answer = asked.result()
        if streamed:
            assert finish(answer).text == "a"
            answer.close()
        else:
            assert answer.json()["choices"][0]["message"]["content"] == "a"
        assert ending.relay.wait() == 0


def test_who_leaves_a_request_that_went_elsewhere_ends_it_there(pool: ThreadPoolExecutor) -> None:
    with replicas(2, ready=0) as two:
        worker = two[1].come()
        asked = pool.submit(chat, two[0].port)
        job = worker.begin()
        worker.speak(job, "a")
        asked.result().close(hard=True)
        assert worker.receive(frames.Cancel).job_id == job.job_id


def test_a_full_replica_gives_away_what_it_cannot_keep(pool: ThreadPoolExecutor) -> None:
    with replicas(2, ready=0, queueLimit=1) as two:
        for one in two:
            one.come(slots=1)
        asked = [pool.submit(chat, two[0].port, narration="comment") for _ in range(2)]
        streams = [one.result() for one in asked]
        third = pool.submit(ask_whole, two[0].relay)
        worker_of(two[1]).serve("elsewhere")
        assert third.result().json()["choices"][0]["message"]["content"] == "elsewhere"
        for stream in streams:
            stream.close()

"""Who may wait, who may run and what ends a request early: cancelling, disconnects and admission."""

import time

import httpx

from rhapsode_contract import frames
from support.conversations import Conversation, begin_and_leave, conversing
from support.fake_worker import FakeWorker
from support.processes import Relay, manifest, running_relay, wait_until
from support.requests import assert_error, post
from support.streams import Stream, ask, resume, text_of

# Snapshot and cancel


def test_a_job_can_be_looked_at_and_cancelled_twice(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.begin()
        worker.speak(job, "a", "b")
        stream.next("token"), stream.next("token")
        view = relay.get(f"/v1/inference/{job.job_id}").json()
        assert (view["status"], view["text"], view["tokens_out"], view["text_len"]) == ("running", "ab", 2, 2)
        for _ in range(2):
            answer = httpx.delete(f"{relay.url}/v1/inference/{job.job_id}")
            assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert worker.receive(frames.Cancel).job_id == job.job_id
        events = stream.rest()
    error = events[-2].data
    assert (error["error"]["code"], error["error"]["partial"], error["retryable"]) == ("cancelled", True, False)
    assert events[-1].name == "done"


def test_a_waiting_job_is_cancelled_without_the_worker_ever_hearing_of_it(relay: Relay) -> None:
    job_id = post(relay, {"prompt": "a"}).json()["job_id"]
    httpx.delete(f"{relay.url}/v1/inference/{job_id}")
    with FakeWorker(relay.socket) as worker:
        kept = post(relay, {"prompt": "b"}).json()["job_id"]
        assert worker.receive(frames.Generate).job_id == kept


def test_late_frames_of_a_cancelled_job_change_nothing_and_free_its_slot_once(relay: Relay) -> None:
    with FakeWorker(relay.socket, slots=1) as worker, ask(relay.port, "first") as stream:
        job = worker.begin()
        httpx.delete(f"{relay.url}/v1/inference/{job.job_id}")
        second = post(relay, {"prompt": "second"}).json()["job_id"]
        worker.speak(job, "late")
        events = stream.rest()
        assert text_of(events) == ""
        worker.send(frames.Finish(job_id=job.job_id, stop_reason="cancelled", tokens_out=1))
        assert worker.receive(frames.Generate).job_id == second, "the slot is free when the worker says so"


# Disconnects


def test_cancel_tells_the_worker_as_soon_as_the_client_is_gone(relay: Relay, worker: FakeWorker) -> None:
    stream = ask(relay.port, on_disconnect="cancel")
    job = begin_and_leave(Conversation(relay, worker, stream), hard=True)
    assert worker.receive(frames.Cancel).job_id == job.job_id
    assert relay.get(f"/v1/inference/{job.job_id}").json()["status"] == "cancelled"


def test_grace_waits_and_then_cancels() -> None:
    with conversing(graceSeconds=1) as talk:
        began = time.monotonic()
        job = begin_and_leave(talk)
        assert talk.worker.receive(frames.Cancel).job_id == job.job_id
        assert time.monotonic() - began > 0.9, "not before the grace is over"


def test_a_reader_that_comes_back_in_time_keeps_the_job() -> None:
    with running_relay(manifest(graceSeconds=2)) as relay, FakeWorker(relay.socket) as worker:
        job, again = wait_until(lambda: left_and_back(relay, worker, 2), "we are back before the grace is over")
        later = begin_and_leave(Conversation(relay, worker, ask(relay.port)))
        while (cancelled := worker.receive(frames.Cancel).job_id) != later.job_id:
            assert cancelled != job.job_id, "its grace would have been over by now"
        worker.speak(job, "a")
        worker.finish(job, 1)
        assert again.rest()[-2].name == "end"
        again.close()


def left_and_back(relay: Relay, worker: FakeWorker, within_s: float) -> tuple[frames.Generate, Stream] | None:
    """Leave a job and come back to it; None if that took longer, for a stall of the machine."""
    began = time.monotonic()
    job = begin_and_leave(Conversation(relay, worker, ask(relay.port)))
    again = resume(relay.port, job.job_id)
    if time.monotonic() - began < within_s:
        return job, again
    again.close()
    return None


def test_grace_for_a_job_that_nobody_reads_begins_when_it_runs() -> None:
    with running_relay(manifest(graceSeconds=1)) as relay:
        job_id = post(relay, {"prompt": "a"}).json()["job_id"]
        time.sleep(2.5)  # it waits longer than the grace
        with FakeWorker(relay.socket) as worker:
            assert worker.begin().job_id == job_id
            assert worker.receive(frames.Cancel).job_id == job_id


def test_continue_finishes_for_nobody(relay: Relay, worker: FakeWorker) -> None:
    stream = ask(relay.port, on_disconnect="continue")
    job = worker.begin()
    stream.close()
    worker.speak(job, "a")
    worker.finish(job, 1)
    wait_until(lambda: relay.get(f"/v1/inference/{job.job_id}").json()["status"] == "completed", "the job completes")


def test_losing_a_reader_of_narration_never_cancels() -> None:
    with conversing(onDisconnect="cancel") as (relay, worker, agent):
        job = worker.begin()
        screen = resume(relay.port, job.job_id, query="?channels=narration")
        screen.next("started")
        screen.close(hard=True)
        wait_until(lambda: relay.metric("rhapsode_relay_readers") == 1, "the screen is gone")
        worker.speak(job, "a")
        worker.finish(job, 1)
        assert agent.rest()[-2].name == "end"


# Admission


def test_a_full_line_is_503_with_retry_after() -> None:
    with running_relay(manifest(queueLimit=1)) as relay:
        assert post(relay, {"prompt": "a"}).status_code == 202
        answer = post(relay, {"prompt": "b"})
        assert_error(answer, 503, "queue_full", retryable=True)
        assert int(answer.headers["retry-after"]) >= 1


def test_requests_beyond_the_slots_wait_their_turn(relay: Relay) -> None:
    with FakeWorker(relay.socket, slots=2) as worker:
        ids = [post(relay, {"prompt": str(at)}).json()["job_id"] for at in range(4)]
        running = [worker.begin(), worker.begin()]
        assert [job.job_id for job in running] == ids[:2]
        assert relay.metric("rhapsode_jobs_queued") == 2
        worker.finish(running[1], 0)
        assert worker.begin().job_id == ids[2]


def test_a_worker_that_failed_is_503_and_who_waits_is_told(relay: Relay) -> None:
    with ask(relay.port) as stream, FakeWorker(relay.socket, ready=False) as worker:
        worker.send(
            frames.State(phase="failed", reason="ModelNotFound", message="Could not load sim: no file. Fix it.")
        )
        assert stream.rest()[-2].data["error"]["code"] == "worker_failed"
        error = assert_error(post(relay, {"prompt": "a"}), 503, "worker_failed", retryable=True)
        assert error["message"] == "Could not load sim: no file. Fix it."


def test_a_draining_worker_is_503_and_who_runs_may_finish(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.begin()
        worker.send(frames.State(phase="draining"))
        wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "draining", "the relay knows")
        assert_error(post(relay, {"prompt": "a"}), 503, "draining", retryable=True)
        worker.speak(job, "a")
        worker.finish(job, 1)
        assert text_of(stream.rest()) == "a"

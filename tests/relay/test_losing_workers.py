"""A worker that is lost and found, and a relay that is killed: what ends, what waits and what is learned again."""

import contextlib
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.narrations import said
from support.patience import patient
from support.processes import Relay, free_port, manifest, running_relay, wait_until
from support.requests import post
from support.streams import ask, resume, text_of

QUESTION, KEY = {"prompt": "a"}, {"Idempotency-Key": "k"}
A, B = "sim-000000000000000a", "sim-000000000000000b"


def held_by_the_worker(job_id: str) -> frames.Resume:
    meta = {"correlation_id": "c", "max_tokens": 8, "on_disconnect": "continue"}
    return frames.Resume(job=frames.JobState(job_id=job_id, meta=meta))


def test_a_lost_worker_ends_running_jobs_at_once_and_the_line_waits(relay: Relay) -> None:
    with FakeWorker(relay.socket, slots=1) as first, ask(relay.port, "one") as one, ask(relay.port, "two") as two:
        job = first.begin()
        first.speak(job, "part")
        one.next("token")
        first.close()
        events = one.rest()
        error = events[-2].data
        assert (error["error"]["code"], error["error"]["partial"], error["retryable"]) == ("worker_lost", True, True)
        assert relay.get("/v1/worker").json()["phase"] == "lost"
        with FakeWorker(relay.socket, boot_id="again") as second:
            second.serve("after all")
            assert text_of(two.rest()) == "after all"


def test_a_worker_that_comes_back_with_a_job_that_was_ended_is_told_to_stop_it(relay: Relay) -> None:
    with FakeWorker(relay.socket) as first, ask(relay.port) as stream:
        job = first.begin()
        first.close()
        stream.rest()
        held = [frames.JobState(job_id=job.job_id, text="abc", tokens=3, meta=dict(job.meta))]
        with FakeWorker(relay.socket, boot_id="same", jobs=held) as again:
            assert again.receive(frames.Cancel).job_id == job.job_id


def test_a_relay_that_was_killed_learns_its_jobs_from_the_worker(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    first = Relay(manifest(), tmp_path, *ports)
    worker = FakeWorker(first.socket)
    stream = ask(first.port, headers={"X-Correlation-Id": "req-9"})
    job = worker.begin()
    worker.speak(job, "a", "b")
    seen = [stream.next("token"), stream.next("token")]
    first.send(signal.SIGKILL)
    first.wait()
    worker.close()
    stream.close()
    first.close()
    second = Relay(manifest(), tmp_path, *ports, patient(reunion_s=600.0))
    try:
        held = [frames.JobState(job_id=job.job_id, text="abc", tokens=3, meta=dict(job.meta))]
        with ThreadPoolExecutor() as pool:
            coming_back = pool.submit(resume, second.port, job.job_id, seen[-1].id)  # before the worker is back
            time.sleep(0.2)
            assert not coming_back.done(), "it waits for the worker rather than to be told 404"
            with FakeWorker(second.socket, jobs=held) as again, coming_back.result() as waiting:
                again.send(frames.Prefill(job_id=job.job_id, prompt_tokens=3))
                again.speak(job, "d", start=3)
                again.finish(job, 4)
                events = waiting.rest()
        assert events[0].name == "snapshot"
        assert (events[0].data["text"], events[0].data["tokens"]) == ("abc", 3)
        assert text_of(events) == "abcd"
        assert events[-2].data["text_len"] == 4
        assert {event.data["correlation_id"] for event in events} == {"req-9"}
    finally:
        second.close()


def asked_before_a_kill(folder: Path, ports: tuple[int, int]) -> frames.JobState:
    """Ask with a key, and let the relay be killed; return what the worker holds of it."""
    with contextlib.closing(Relay(manifest(), folder, *ports)) as relay, FakeWorker(relay.socket) as worker:
        assert post(relay, QUESTION, **KEY).status_code == 202
        job = worker.begin()
        return frames.JobState(job_id=job.job_id, meta=dict(job.meta))


def test_who_asks_again_before_the_worker_is_back_gets_the_job_that_it_holds(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    held = asked_before_a_kill(tmp_path, ports)
    with contextlib.closing(Relay(manifest(), tmp_path, *ports, patient(reunion_s=600.0))) as relay:
        with ThreadPoolExecutor() as pool:
            again = pool.submit(post, relay, QUESTION, **KEY)
            time.sleep(0.2)
            assert not again.done(), "it waits for the worker rather than to begin anew"
            with FakeWorker(relay.socket, jobs=[held]):
                answer = again.result()
        assert (answer.json()["job_id"], answer.headers["idempotent-replayed"]) == (held.job_id, "true")


def test_who_asks_a_relay_that_nobody_was_before_is_told_at_once_what_goes_on() -> None:
    with running_relay(environ=patient(reunion_s=600.0)) as relay, ask(relay.port, headers=KEY) as stream:
        assert stream.next("queued").data["position"] == 0


def test_what_was_begun_anew_since_the_worker_stayed_away_keeps_its_key(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    held = asked_before_a_kill(tmp_path, ports)
    with contextlib.closing(Relay(manifest(), tmp_path, *ports, patient(reunion_s=0.0))) as relay:
        anew = post(relay, QUESTION, **KEY).json()["job_id"]
        assert anew != held.job_id
        with FakeWorker(relay.socket, jobs=[held]):
            wait_until(lambda: relay.get(f"/v1/inference/{held.job_id}").status_code == 200, "the old one is back")
            assert post(relay, QUESTION, **KEY).json()["job_id"] == anew


def test_a_job_that_the_worker_has_yet_to_tell_of_is_waited_for(tmp_path: Path) -> None:
    with running_relay(environ=patient(reunion_s=600.0)) as relay, FakeWorker(relay.socket, resumes=2) as worker:
        wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "the worker is here")
        with ThreadPoolExecutor() as pool:
            coming = pool.submit(relay.get, f"/v1/inference/{B}")
            worker.send(held_by_the_worker(A))
            time.sleep(0.2)
            assert not coming.done(), "one job is still to come, and this may be it"
            worker.send(held_by_the_worker(B))
            assert coming.result().json()["status"] == "running"
        assert relay.get("/v1/inference/sim-000000000000000c").status_code == 404, "now all are known"


def test_a_job_that_a_killed_relay_had_not_begun_is_said_to_be_lost(relay: Relay, worker: FakeWorker) -> None:
    wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "the worker is here")
    with resume(relay.port, "sim-0123456789abcdef", "sim-0123456789abcdef-oldepoch-3") as stream:
        body = stream.json()
    assert (stream.status, body["error"]["code"], body["retryable"]) == (410, "job_lost", True)


def test_the_worker_tells_a_late_relay_what_was_said_before(relay: Relay) -> None:
    with FakeWorker(relay.socket, ready=False) as worker:
        worker.send(frames.Narration(human="I woke up", action="start", ts="2026-11-21T08:00:00.000Z"))
        assert said(relay, "I woke up")["ts"] == "2026-11-21T08:00:00.000Z"


def test_time_is_not_lost_on_a_stale_socket(tmp_path: Path) -> None:
    """A killed relay leaves its socket behind; the next one must not be stopped by it."""
    with running_relay() as relay:
        relay.send(signal.SIGKILL)
        relay.wait()
        assert relay.socket.exists()
        again = Relay(manifest(), relay.socket.parent, relay.port, int(relay.admin_url.rpartition(":")[2]))
        try:
            with FakeWorker(again.socket):
                wait_until(lambda: again.get("/v1/worker").json()["phase"] == "ready", "the worker is here")
        finally:
            again.close()

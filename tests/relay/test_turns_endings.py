"""What ends a turn before its end, in each of its phases: a cancel, a lost worker, time, a drain, a killed relay."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay, free_port, manifest, wait_until
from support.requests import assert_error, post
from support.streams import ask, resume
from support.turns import NARRATIVE, Table, declared, generation, names_of, sitting, stopped_in


def nothing_left(table: Table) -> None:
    """Wait until no slot is held and no turn is under way."""
    wait_until(lambda: table.relay.metric("rhapsode_jobs_running") == 0, "no slot is held")
    assert table.relay.metric("rhapsode_jobs_queued") == 0


# Cancelling


@pytest.fixture
def table() -> Iterator[Table]:
    with sitting() as running:
        yield running


@pytest.mark.parametrize("phase", ["context", "narrative", "intents"])
def test_a_turn_can_be_cancelled_until_it_is_written(table: Table, phase: str) -> None:
    with stopped_in(table, phase) as (stream, running):
        answer = httpx.delete(f"{table.relay.url}/v1/inference/{stream.headers['x-job-id']}")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        told = stream.rest()
        assert (told[-2].data["error"]["code"], told[-1].name) == ("cancelled", "done")
        if phase != "context":
            assert table.worker.receive(frames.Cancel).job_id == running
            table.worker.send(frames.Finish(job_id=running, stop_reason="cancelled", tokens_out=1))
    nothing_left(table)
    assert "/narratives" not in table.outside.paths()


def test_what_is_being_written_is_not_cancelled(table: Table) -> None:
    with stopped_in(table, "writes") as (stream, _):
        path = f"{table.relay.url}/v1/inference/{stream.headers['x-job-id']}"
        assert_error(httpx.delete(path), 409, "turn_writing")
        table.outside.held["/pois"].set()
        assert stream.rest()[-2].name == "end"
        assert httpx.delete(path).json()["status"] == "completed"


def test_a_turn_in_line_is_cancelled_without_the_worker_ever_hearing_of_it() -> None:
    with sitting(slots=1) as table, ask(table.relay.port, "first"):
        first = table.worker.begin()
        with table.ask() as stream:
            wait_until(lambda: table.relay.metric("rhapsode_jobs_queued") == 1, "it stands in line")
            httpx.delete(f"{table.relay.url}/v1/inference/{stream.headers['x-job-id']}")
            assert stream.rest()[-2].data["error"]["code"] == "cancelled"
        job_id = post(table.relay, {"prompt": "next"}).json()["job_id"]
        table.worker.finish(first, 0)
        assert table.worker.receive(frames.Generate).job_id == job_id


# The worker


@pytest.mark.parametrize("phase", ["narrative", "intents"])
def test_a_lost_worker_ends_a_turn_and_nothing_is_written(phase: str) -> None:
    with sitting() as table:
        with stopped_in(table, phase) as (stream, _):
            table.worker.close()
            error = stream.rest()[-2].data
            assert (error["error"]["code"], error["error"]["partial"], error["retryable"]) == (
                "worker_lost",
                True,
                True,
            )
        nothing_left(table)
        assert table.outside.calls == []


def test_a_lost_worker_stops_no_writes() -> None:
    with sitting() as table, stopped_in(table, "writes") as (stream, _):
        table.worker.close()
        wait_until(lambda: table.relay.get("/v1/worker").json()["phase"] == "lost", "the relay knows")
        table.outside.held["/pois"].set()
        assert [one["status"] for one in stream.rest()[-2].data["writes"]] == ["written", "written"]


@pytest.mark.parametrize("phase", ["narrative", "intents"])
def test_an_engine_that_fails_ends_a_turn_with_its_words(table: Table, phase: str) -> None:
    with stopped_in(table, phase) as (stream, running):
        table.worker.send(frames.Error(job_id=running, code="engine_crashed", message="it fell", retryable=True))
        error = stream.rest()[-2].data
    assert (error["error"]["code"], error["retryable"]) == ("engine_crashed", True)
    assert "it fell" in error["error"]["message"]
    nothing_left(table)
    assert table.outside.calls == []


def test_a_worker_that_drains_by_itself_takes_no_intents_and_nothing_is_written(table: Table) -> None:
    """What it runs it may finish; it was told to end, as when its container is stopped and not its pod."""
    with stopped_in(table, "narrative") as (stream, job_id):
        release = table.outside.hold("/sparks")
        with table.ask(context={"sparks": True}) as other:
            table.outside.wait_call("/sparks")
            table.worker.send(frames.State(phase="draining"))
            table.worker.finish(generation(job_id), 1)
            asked = table.worker.receive(frames.Generate)
            table.worker.send(frames.Error(job_id=asked.job_id, code="draining", message="it drains", retryable=True))
            release.set()
            for one in (stream, other):
                error = one.rest()[-2].data
                assert (error["error"]["code"], error["retryable"]) == ("draining", True)
    nothing_left(table)
    assert table.outside.paths() == ["/sparks"]


def test_the_intents_take_over_the_slot_before_anybody_in_line() -> None:
    with sitting(slots=1) as table, table.ask() as stream:
        job = table.worker.begin()
        table.worker.speak(job, *NARRATIVE)
        waiting = post(table.relay, {"prompt": "waits"}).json()["job_id"]
        table.worker.finish(job, len(NARRATIVE))
        second = table.worker.begin()
        assert second.job_id != waiting
        assert table.relay.metric("rhapsode_jobs_queued") == 1
        table.worker.speak(second, '{"poi":{"action":"none"}}')
        table.worker.finish(second, 1)
        assert stream.rest()[-2].name == "end"
        assert table.worker.begin().job_id == waiting


# Time and size


@pytest.mark.parametrize(
    ("phase", "limit", "words"),
    [
        ("narrative", "narrativeSeconds", "the narrative took longer than 1 s"),
        ("intents", "intentsSeconds", "the intents took longer than 1 s"),
    ],
)
def test_each_phase_has_its_time(phase: str, limit: str, words: str) -> None:
    """The turn's own time is in `test_turns_driver`."""
    with sitting(limits={limit: 1}) as table:
        with table.ask() as stream:
            if phase == "intents":
                table.narrate()
            running = table.worker.begin().job_id
            error = stream.rest()[-2].data
            assert (error["error"]["code"], error["error"]["message"]) == ("timeout", words)
            assert error["retryable"] is True
            assert table.worker.receive(frames.Cancel).job_id == running
            table.worker.send(frames.Finish(job_id=running, stop_reason="cancelled", tokens_out=1))
        nothing_left(table)
        assert table.outside.calls == []


def test_a_turn_does_not_wait_for_ever_for_a_worker() -> None:
    with sitting(limits={"turnSeconds": 1}) as table:
        table.worker.close()
        wait_until(lambda: table.relay.get("/v1/worker").json()["phase"] == "lost", "the relay knows")
        error = assert_error(table.post(), 504, "timeout", retryable=True)
        assert error["message"] == "the turn took longer than 1 s; this was the wait for the worker"
        nothing_left(table)


@pytest.mark.parametrize("text", ["x" * 1025, "€" * 400])
def test_a_narrative_that_is_too_long_ends_the_turn(text: str) -> None:
    with sitting(limits={"narrativeBytes": 1024}) as table:
        with table.ask() as stream:
            job = table.worker.begin()
            table.worker.speak(job, text)
            table.worker.finish(job, 1)
            error = stream.rest()[-2].data
        assert (error["error"]["code"], error["retryable"]) == ("narrative_too_long", False)
        nothing_left(table)
        assert table.outside.calls == []


# The relay's own end


def test_sigterm_lets_a_turn_come_to_its_end() -> None:
    with sitting() as table, stopped_in(table, "narrative") as (stream, job_id):
        table.relay.send(signal.SIGTERM)
        table.relay.wait_record("relay_drain")
        assert_error(post(table.relay, {"prompt": "x"}), 503, "draining", retryable=True)
        table.worker.finish(generation(job_id), 1)
        table.intend()
        assert [one["status"] for one in stream.rest()[-2].data["writes"]] == ["written", "written"]
        assert table.relay.wait() == 0


def test_sigterm_lets_writes_finish() -> None:
    with sitting() as table, stopped_in(table, "writes") as (stream, _):
        table.relay.send(signal.SIGTERM)
        table.relay.wait_record("relay_drain")
        assert_error(post(table.relay, {"prompt": "x"}), 503, "draining", retryable=True)
        table.outside.held["/pois"].set()
        assert names_of(stream.rest())[-2:] == ["end", "done"]
        assert table.relay.wait() == 0
        assert table.outside.paths() == ["/pois", "/narratives"]


def test_at_the_deadline_of_a_drain_nothing_more_is_written() -> None:
    with sitting(relay={"drainSeconds": 1}) as table, stopped_in(table, "writes") as (stream, _):
        table.relay.send(signal.SIGTERM)
        error = stream.rest()[-2].data
        assert (error["error"]["code"], error["retryable"]) == ("server_shutdown", True)
        assert table.relay.wait() == 0
        assert table.outside.paths() == ["/pois"]


def test_a_worker_is_told_to_drain_once_no_turn_needs_it() -> None:
    """It takes nothing more from then on, and the intents are still to come."""
    with sitting() as table, stopped_in(table, "narrative") as (stream, job_id):
        assert httpx.post(f"{table.relay.admin_url}/v1/drain").json()["running"] == 1
        table.worker.finish(generation(job_id), 1)
        first = table.worker.receive((frames.Generate, frames.Drain))
        assert isinstance(first, frames.Generate)
        table.worker.speak(first, '{"poi":{"action":"none"}}')
        table.worker.finish(first, 1)
        assert table.worker.receive(frames.Drain).deadline_s > 0
        assert stream.rest()[-2].name == "end"


def test_a_relay_that_was_killed_ends_the_turns_of_the_one_before(tmp_path: Path) -> None:
    with sitting() as other:
        resource_of = _manifest(other.outside.url)
        ports = free_port(), free_port()
        first = Relay(resource_of, tmp_path, *ports)
        worker = FakeWorker(first.socket, json_schema=True)
        table = Table(first, worker, other.outside)
        with stopped_in(table, "narrative") as (stream, _):
            job_id = stream.headers["x-job-id"]
            first.send(signal.SIGKILL)
            first.wait()
        worker.close()
        first.close()
        second = Relay(resource_of, tmp_path, *ports)
        try:
            meta = {"correlation_id": "c-1", "max_tokens": 512, "on_disconnect": "continue", "part": "narrative"}
            held = [
                frames.JobState(job_id=job_id, text="The ", tokens=1, meta=meta),
                frames.JobState(job_id="sim-0000", text="{", tokens=1, meta=meta | {"part": "intents"}),
            ]
            with FakeWorker(second.socket, jobs=held) as again:
                assert {again.receive(frames.Cancel).job_id, again.receive(frames.Cancel).job_id} == {
                    job_id,
                    "sim-0000",
                }
                with resume(second.port, job_id, f"{job_id}-oldepoch-3") as stream:
                    told = stream.rest()
                assert (told[0].name, told[0].data["text"]) == ("snapshot", "The ")
                error = told[-2].data
                assert (error["error"]["code"], error["retryable"]) == ("job_lost", True)
                assert second.get("/v1/inference/sim-0000").status_code == 404
        finally:
            second.close()
        assert other.outside.calls == []


def _manifest(url: str) -> dict[str, Any]:
    resource = manifest()
    resource["spec"]["outcomes"] = [declared(url)]
    return resource

"""A replica that cannot begin gives a new request to one that can; it never goes in a circle, and never gets lost."""

import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from rhapsode_contract import events, frames, names
from rhapsode_relay.handing_over import choose
from rhapsode_relay.peers import Address
from support.fake_worker import FakeWorker
from support.processes import Relay, wait_until
from support.replicas import Replica, replicas, worker_of
from support.requests import assert_error, post
from support.streams import Stream, actions_of, ask, text_of


def handed_over(relay: Relay, why: str) -> float:
    return relay.metric(f'rhapsode_requests_handed_over_total{{why="{why}"}}')


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Replica]]:
    """A replica whose worker has not come, and one that is ready."""
    with replicas(2, ready=0) as two:
        yield two


@pytest.fixture
def ready(pair: list[Replica]) -> Iterator[FakeWorker]:
    yield pair[1].come()
    pair[1].leave()
    wait_until(lambda: pair[1].phase() == "lost", "its worker is gone")


def test_a_request_that_would_wait_for_the_model_goes_to_who_has_it(pair: list[Replica], ready: FakeWorker) -> None:
    before = handed_over(pair[0].relay, "loading")
    with ask(pair[0].port, "hello", headers={"X-Correlation-Id": "turn-1"}) as stream:
        job = ready.serve("a", "b")
        told = stream.rest()
    assert (text_of(told), told[-1].name) == ("ab", "done")
    assert job.job_id.startswith("sim-1-")
    assert stream.headers["x-job-id"] == job.job_id
    assert {event.data["correlation_id"] for event in told} == {stream.headers["x-correlation-id"]} == {"turn-1"}
    assert "taken_over" in actions_of(told)
    assert handed_over(pair[0].relay, "loading") == before + 1
    record = pair[0].relay.wait_record("handed_over")
    assert (record["correlation_id"], record["message"]) == (
        "turn-1",
        "Handed over to sim-1: this replica is loading",
    )
    with Stream(pair[0].port, f"/v1/inference/{job.job_id}/stream") as again:
        assert text_of(again.rest()) == "ab", "and it is found through either"


def test_its_answer_is_the_client_s_with_or_without_a_stream(pair: list[Replica], ready: FakeWorker) -> None:
    answer = post(pair[0].relay, {"prompt": "x", "unknown": "ü"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    job = ready.serve("a")
    assert answer.headers["x-job-id"] == answer.json()["job_id"] == job.job_id
    assert answer.headers["location"] == f"/v1/inference/{job.job_id}"
    executed = Stream(pair[0].port, "/execute", method="POST", body={"prompt": "x"})
    ready.serve("c")
    assert text_of(executed.rest()) == "c"
    executed.close()


def test_an_id_that_we_chose_is_the_same_everywhere(pair: list[Replica], ready: FakeWorker) -> None:
    with ask(pair[0].port) as stream:
        job = ready.serve("a")
        stream.rest()
    assert stream.headers["x-correlation-id"] == job.correlation_id
    assert job.correlation_id.startswith("req-")


def test_a_wrong_request_is_refused_where_it_came(pair: list[Replica], ready: FakeWorker) -> None:
    before = handed_over(pair[0].relay, "loading")
    assert_error(post(pair[0].relay, {"prompt": "x", "model": "other"}), 404, "model_not_found")
    assert_error(post(pair[0].relay, b"{"), 400, "invalid_json")
    assert_error(post(pair[0].relay, {}), 400, "invalid_request")
    assert handed_over(pair[0].relay, "loading") == before


def test_the_same_key_is_the_same_job_wherever_it_went(pair: list[Replica], ready: FakeWorker) -> None:
    key = {"Idempotency-Key": "k-1"}
    first = post(pair[0].relay, {"prompt": "x"}, **key)
    assert first.status_code == 202
    second = post(pair[0].relay, {"prompt": "x"}, **key)
    assert (second.json()["job_id"], second.headers["idempotent-replayed"]) == (first.json()["job_id"], "true")
    other = post(pair[0].relay, {"prompt": "y"}, **key)
    assert_error(other, 422, "idempotency_key_reused")
    with FakeWorker(pair[0].relay.socket):
        wait_until(lambda: pair[0].phase() == "ready", "it is ready itself")
        third = post(pair[0].relay, {"prompt": "x"}, **key)
        assert third.json()["job_id"] == first.json()["job_id"]
    wait_until(lambda: pair[0].phase() == "lost", "its worker is gone")
    ready.serve("a")


def test_nobody_ready_means_that_we_hold_it_and_tell(pair: list[Replica]) -> None:
    with ask(pair[0].port) as stream:
        assert stream.headers["x-job-id"].startswith("sim-0-")
        assert "queued" in [stream.next().name for _ in range(3)]
        with FakeWorker(pair[0].relay.socket) as worker:
            worker.serve("late")
            assert text_of(stream.rest()) == "late"
    wait_until(lambda: pair[0].phase() == "lost", "its worker is gone")


@pytest.mark.parametrize(("refused", "taken"), [("sim-1", "sim-0"), ("someone", "sim-9' <b>")])
def test_what_was_handed_over_is_taken_or_refused_and_never_goes_on(
    pair: list[Replica], ready: FakeWorker, refused: str, taken: str
) -> None:
    answer = post(pair[0].relay, {"prompt": "x"}, **{names.HOP_HEADER: refused})
    assert_error(answer, 503, "worker_loading", retryable=True)
    with ask(pair[1].port, headers={names.HOP_HEADER: taken}) as stream:
        ready.serve("a")
        told = stream.rest()
    assert text_of(told) == "a"
    assert ("taken_over" in actions_of(told)) == (taken == "sim-0"), "a name that we do not know is not told"


# Why it cannot begin


def test_a_draining_replica_hands_over_and_else_says_when_to_come_back() -> None:
    with replicas(2) as two, ask(two[0].port, "runs") as runs:
        job = worker_of(two[0]).begin()
        runs.next("started")
        httpx.post(f"{two[0].relay.admin_url}/v1/drain")
        with ask(two[0].port) as stream:
            worker_of(two[1]).serve("a")
            assert text_of(stream.rest()) == "a"
        assert handed_over(two[0].relay, "draining") == 1
        two[1].leave()
        wait_until(lambda: two[1].phase() == "lost", "the other is not ready")

        def refused() -> bool:
            return post(two[0].relay, {"prompt": "x"}).status_code == 503

        wait_until(refused, "it is known that the other is not ready")
        answer = post(two[0].relay, {"prompt": "x"})
        assert_error(answer, 503, "draining", retryable=True)
        assert int(answer.headers["retry-after"]) >= 1
        worker_of(two[0]).finish(job, 0)
        assert runs.rest()[-2].name == "end"


def test_a_relay_that_was_told_to_end_is_not_given_anything() -> None:
    """It says that its worker is ready, and refuses: the next one is asked, then the request is held."""
    with replicas(3, ready=1) as three, ask(three[0].port, "runs") as runs:
        job = worker_of(three[0]).begin()
        runs.next("started")
        three[0].relay.send(signal.SIGTERM)
        wait_until(lambda: post(three[0].relay, {"prompt": "x"}).status_code == 503, "it takes nothing new")
        with ask(three[1].port) as held:
            assert held.headers["x-job-id"].startswith("sim-1-")
            three[1].come().serve("mine")
            assert text_of(held.rest()) == "mine"
        worker_of(three[0]).finish(job, 0)
        runs.rest()


def test_a_full_replica_gives_what_it_cannot_keep() -> None:
    with replicas(2, ready=0, queueLimit=1) as two:
        for one in two:
            one.come(slots=1)
        with ask(two[0].port, "one"), ask(two[0].port, "two"), ask(two[0].port, "three") as third:
            assert third.headers["x-job-id"].startswith("sim-1-")
            assert handed_over(two[0].relay, "full") == 1
            with ask(two[1].port, "four"):
                wait_until(
                    lambda: post(two[0].relay, {"prompt": "five"}).status_code == 503, "both are known to be full"
                )
                assert_error(post(two[0].relay, {"prompt": "six"}), 503, "queue_full", retryable=True)


def test_a_burst_is_spread_over_those_who_are_ready() -> None:
    with replicas(3, ready=0) as three:
        for one in three[1:]:
            one.come()
        owners = [post(three[0].relay, {"prompt": "x"}).json()["job_id"][:5] for _ in range(6)]
        assert sorted(owners) == ["sim-1"] * 3 + ["sim-2"] * 3


def test_a_client_that_leaves_has_left_who_took_its_request() -> None:
    with replicas(2, ready=0, onDisconnect="cancel") as two:
        worker = two[1].come()
        stream = ask(two[0].port)
        job = worker.begin()
        stream.next("started")
        stream.close(hard=True)
        assert worker.receive(frames.Cancel).job_id == job.job_id


# Who is chosen


def state(worker_id: str, **said: Any) -> tuple[Address, events.Worker]:
    facts: dict[str, Any] = {"seq": 0, "phase": "ready", "running": 0, "queued": 0} | said
    return Address("h", int(worker_id[-1])), events.Worker(worker_id=worker_id, **facts)


def test_the_least_loaded_of_those_who_are_ready_and_have_room_is_chosen() -> None:
    found = [
        state("sim-1", running=3, queued=2), state("sim-2", running=4), state("sim-3", phase="loading"),
        state("sim-4", queued=8), state("sim-5", running=1, queued=0, caps=frames.Caps(slots=1)),
        state("sim-6", phase="draining"),
    ]  # fmt: skip
    assert [one.worker_id for one in choose(found, 8)] == ["sim-5", "sim-2", "sim-1"]
    assert [one.worker_id for one in choose([state("sim-1", caps=frames.Caps(slots=1))], 0)] == ["sim-1"]
    assert choose([state("sim-1", running=1, caps=frames.Caps(slots=1))], 0) == []

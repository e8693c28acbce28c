"""Turns and replicas: one that cannot begin a turn gives it to one that can, and finds its turns for everyone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.outside import Outside, outside
from support.processes import DEADLINE_S, wait_until
from support.replicas import Replica, replicas
from support.requests import assert_error
from support.streams import resume, text_of
from support.turns import NARRATIVE, Table, declared, names_of


@pytest.fixture
def server() -> Iterator[Outside]:
    with outside() as made:
        yield made


@pytest.fixture
def pair(server: Outside) -> Iterator[list[Replica]]:
    """A replica whose worker has not come, and one that is ready."""
    with replicas(2, ready=0, outcomes=[declared(server.url)]) as two:
        yield two


def seats(pair: list[Replica], server: Outside, **said: Any) -> tuple[Table, Table]:
    """Return how a client sees the replica without a worker, and the one that has one."""
    worker = pair[1].come(json_schema=True, **said)
    return Table(pair[0].relay, worker, server), Table(pair[1].relay, worker, server)


def test_a_turn_that_would_wait_for_the_model_goes_to_who_has_it(pair: list[Replica], server: Outside) -> None:
    here, _ = seats(pair, server)
    with here.ask(headers={"X-Correlation-Id": "turn-1"}) as stream:
        here.play()
        told = stream.rest()
    assert stream.headers["x-job-id"].startswith("sim-1-")
    assert text_of(told) == "".join(NARRATIVE)
    assert names_of(told)[-4:] == ["data write", "metrics", "end", "done"]
    assert server.calls[0].headers["x-correlation-id"] == "turn-1"
    with resume(pair[0].port, stream.headers["x-job-id"]) as again:
        assert names_of(again.rest())[-3:] == ["metrics", "end", "done"], "and it is found through either"


def test_its_whole_answer_is_waited_for(pair: list[Replica], server: Outside) -> None:
    here, _ = seats(pair, server)
    release = server.hold("/pois")
    with ThreadPoolExecutor() as pool:
        answering = pool.submit(here.post)
        here.play()
        server.wait_call("/pois")
        release.set()
        answer = answering.result(DEADLINE_S)
    assert answer.status_code == 200
    assert answer.json()["job_id"].startswith("sim-1-")
    assert [one["status"] for one in answer.json()["writes"]] == ["written", "written"]
    assert server.paths() == ["/pois", "/narratives"]
    with ThreadPoolExecutor() as pool:
        answering = pool.submit(here.post)
        here.play({})
        assert_error(answering.result(DEADLINE_S), 422, "outcome_invalid")


def test_the_same_key_is_the_same_turn_wherever_it_went(pair: list[Replica], server: Outside) -> None:
    here, there = seats(pair, server)
    key = {"Idempotency-Key": "k-1"}
    with here.ask(headers=key) as stream:
        here.play()
        first = stream.rest()
    for one in (here, there):
        with one.ask(headers=key) as stream:
            assert stream.rest()[-2].data == first[-2].data
    assert len(server.calls) == 2


def test_a_wrong_turn_is_refused_where_it_came(pair: list[Replica], server: Outside) -> None:
    here, _ = seats(pair, server)
    assert_error(here.post(contract="other"), 404, "contract_not_found")
    assert_error(here.post(context={"x": True}), 400, "invalid_request")


def test_a_replica_with_as_many_turns_as_it_may_have_hands_on() -> None:
    with outside() as server, replicas(2, ready=0, outcomes=[declared(server.url)], turnLimit=1) as two:
        workers = [one.come(json_schema=True) for one in two]
        here = Table(two[0].relay, workers[0], server)
        with here.ask() as first, here.ask() as second:
            assert first.headers["x-job-id"].startswith("sim-0-")
            assert second.headers["x-job-id"].startswith("sim-1-")
            wait_until(lambda: here.post().status_code == 503, "both are known to be full")


def test_a_client_that_left_the_replica_it_asked_has_left_nothing_undone(
    pair: list[Replica], server: Outside
) -> None:
    here, _ = seats(pair, server)
    stream = here.ask()
    job = here.worker.begin()
    stream.close(hard=True)
    here.worker.speak(job, *NARRATIVE)
    here.worker.finish(job, len(NARRATIVE))
    here.intend()
    server.wait_call("/narratives")
    pair[1].relay.wait_record("stream")
    wait_until(
        lambda: [one for one in list(pair[1].relay.records) if one.get("stream_phase") == "complete"],
        "the turn is complete",
    )

"""One id joins the jobs, answers, errors and events of one request, and a screen may follow it."""

import re

import pytest

from support.fake_worker import FakeWorker
from support.processes import Relay
from support.streams import Stream, ask, text_of


def test_a_screen_that_subscribes_first_hears_every_job_of_its_id(relay: Relay, worker: FakeWorker) -> None:
    with Stream(relay.port, "/v1/correlations/req-7/stream") as screen:
        assert screen.status == 200
        for prompt in ("one", "two"):
            with ask(relay.port, prompt, headers={"X-Correlation-Id": "req-7"}) as agent:
                job = worker.serve(prompt)
                own = [event.raw for event in agent.rest()][1:]
            heard = [event for event in screen.until("done") if event.data["job_id"] == job.job_id]
            assert [event.raw for event in heard][1:] == own
        with ask(relay.port, "other", headers={"X-Correlation-Id": "req-8"}) as agent:
            worker.serve("other")
            agent.rest()
        with ask(relay.port, "three", headers={"X-Correlation-Id": "req-7"}) as agent:
            worker.serve("three")
            agent.rest()
        assert {event.data["correlation_id"] for event in screen.until("done")} == {"req-7"}


def test_a_screen_that_comes_later_gets_what_was_and_what_comes(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port, headers={"X-Correlation-Id": "req-7"}) as agent:
        worker.serve("a", "b")
        agent.rest()
    with Stream(relay.port, "/v1/correlations/req-7/stream?channels=narration") as screen:
        assert "token" not in [event.name for event in screen.until("done")]


def test_a_screen_that_comes_back_continues_its_job_and_gets_snapshots_of_the_others(
    relay: Relay, worker: FakeWorker
) -> None:
    ids = {"X-Correlation-Id": "req-7"}
    with ask(relay.port, "one", headers=ids), ask(relay.port, "two", headers=ids):
        one, two = worker.begin(), worker.begin()
        with Stream(relay.port, "/v1/correlations/req-7/stream") as screen:
            worker.speak(one, "a")
            cursor = screen.next("token").id
        worker.speak(one, "b", start=1)
        worker.speak(two, "c")
        with Stream(relay.port, "/v1/correlations/req-7/stream", headers={"Last-Event-ID": cursor}) as screen:
            worker.finish(one, 2)
            worker.finish(two, 1)
            events = screen.until("done")
            events += screen.until("done")
    of_one = [event for event in events if event.data["job_id"] == one.job_id]
    of_two = [event for event in events if event.data["job_id"] == two.job_id]
    assert of_one[0].name == "replay"
    assert text_of(of_one) == "b"
    assert of_two[0].name == "snapshot"
    assert of_two[0].data["reason"] == "joined"
    assert text_of(of_two) == "c"


@pytest.mark.parametrize("wanted", ["a%20b", "x" * 65, "a:b"])
def test_what_is_no_correlation_id_is_refused(relay: Relay, wanted: str) -> None:
    assert relay.get(f"/v1/correlations/{wanted}/stream").status_code == 400


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Correlation-Id": "a.b-c_1"}, "a.b-c_1"),
        ({"X-Request-Id": "r1"}, "r1"),
        ({"X-Correlation-Id": "bad id!", "X-Request-Id": "r1"}, "r1"),
        ({"X-Correlation-Id": "c1", "X-Request-Id": "r1"}, "c1"),
        (
            {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
            "4bf92f3577b34da6a3ce929d0e0e4736",
        ),
        ({"X-Correlation-Id": "x" * 65}, None),
        ({}, None),
    ],
)
def test_one_id_joins_answers_errors_and_events(
    relay: Relay, worker: FakeWorker, headers: dict[str, str], expected: str | None
) -> None:
    with ask(relay.port, headers=headers) as stream:
        job = worker.serve("a")
        events = stream.rest()
    chosen = stream.headers["x-correlation-id"]
    assert chosen == stream.headers["x-request-id"] == job.correlation_id
    assert chosen == expected if expected else re.fullmatch(r"req-[0-9a-f]{16}", chosen)
    assert {event.data["correlation_id"] for event in events} == {chosen}
    with Stream(relay.port, "/v1/inference/nope", headers=headers) as answer:
        body = answer.json()
    if expected:
        assert body["correlation_id"] == answer.headers["x-correlation-id"] == expected

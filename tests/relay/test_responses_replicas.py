"""A response is read, looked at and cancelled through whatever replica the client meets; its id names its owner."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from rhapsode_contract import frames, names
from support.processes import wait_until
from support.replicas import Replica, forwarded, replicas, worker_of
from support.requests import assert_error
from support.responses import create, create_stream, create_while, delta_text, id_of, read_again


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Replica]]:
    """Two ready replicas, for tests that leave nothing behind."""
    with replicas() as two, worker_of(two[0]).breathing(), worker_of(two[1]).breathing():
        yield two


def test_a_stream_goes_on_at_another_replica(pair: list[Replica]) -> None:
    before = forwarded(pair[1], "stream", "passed")
    stream = create_stream(pair[0].port, background=True)
    job = worker_of(pair[0]).begin()
    worker_of(pair[0]).speak(job, "a")
    seen = stream.until("response.output_text.delta")
    stream.close(hard=True)
    with read_again(pair[1].port, id_of(seen), seen[-1].data["sequence_number"]) as again:
        worker_of(pair[0]).speak(job, "b", start=1)
        worker_of(pair[0]).finish(job, 2)
        rest = again.rest()
    assert delta_text(seen + rest) == "ab"
    with read_again(pair[0].port, id_of(seen)) as here, read_again(pair[1].port, id_of(seen)) as there:
        here.rest()
        there.rest()
        assert here.raw == there.raw
    wait_until(lambda: forwarded(pair[1], "stream", "passed") == before + 2, "both were passed on to their ends")


def test_it_is_looked_at_and_cancelled_at_another_replica(pair: list[Replica]) -> None:
    response_id = create(pair[0].relay, background=True).json()["id"]
    job = worker_of(pair[0]).begin()
    here, there = (httpx.get(f"{one.relay.url}/v1/responses/{response_id}") for one in pair)
    assert here.json() == there.json()
    for _ in range(2):
        answer = httpx.post(f"{pair[1].relay.url}/v1/responses/{response_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert worker_of(pair[0]).receive(frames.Cancel).job_id == job.job_id


def test_a_request_is_forwarded_once_only(pair: list[Replica]) -> None:
    url = f"{pair[1].relay.url}/v1/responses/resp_sim-0-0123456789abcdef"
    for answer in (
        httpx.get(url, headers={names.HOP_HEADER: "sim-0"}),
        httpx.post(f"{url}/cancel", headers={names.HOP_HEADER: "sim-0"}),
    ):
        assert_error(answer, 421, "misdirected")
    assert_error(httpx.get(url), 404, "response_not_found")


@pytest.mark.parametrize(
    "job",
    [
        "127.0.0.1:PORT-0123456789abcdef", "sim-0@127.0.0.1:PORT-0123456789abcdef", "sim-0%2f..%2fx-0123456789abcdef",
        "sim-0-0123456789abcdef%0a", "%2e%2e-0123456789abcdef", "sim-0-0123456789abcdef%2f..%2f..%2fworker",
        "sim-0-0123456789abcdef%3fx", "sim-0.evil-0123456789abcdef",
    ],
)  # fmt: skip
def test_no_id_makes_us_call_a_stranger(pair: list[Replica], job: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.2)
        path = job.replace("PORT", str(stranger.getsockname()[1]))
        for tail in ("", "?stream=true"):
            answer = httpx.get(f"{pair[1].relay.url}/v1/responses/resp_{path}{tail}")
            assert answer.status_code == 404, answer.text
        with pytest.raises(TimeoutError):
            stranger.accept()


def test_a_request_that_would_wait_is_another_replica_s() -> None:
    with replicas(2, ready=0) as two:
        ready = two[1].come()
        with create_stream(two[0].port) as stream:
            job = ready.serve("a", "b")
            events = stream.rest()
        assert (id_of(events), delta_text(events)) == (f"resp_{job.job_id}", "ab")
        assert job.job_id.startswith("sim-1-")
        answer = create_while(two[0].relay, lambda: ready.serve("c"))
        assert answer.json()["output"][0]["content"][0]["text"] == "c"
        shown = httpx.get(f"{two[0].relay.url}/v1/responses/{answer.json()['id']}").json()
        assert shown == answer.json()

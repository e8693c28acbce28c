"""A job is read, shown and cancelled through whatever replica the client meets: its owner answers, byte for byte."""

import hashlib
import socket
from collections.abc import Iterator

import httpx
import pytest

from rhapsode_contract import frames, names
from support.processes import free_port, wait_until
from support.replicas import Replica, forwarded, replicas, worker_of
from support.requests import assert_error
from support.streams import ask, resume, text_of


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Replica]]:
    """Two ready replicas, for tests that leave nothing behind."""
    with replicas() as two, worker_of(two[0]).breathing():
        yield two


def finished(replica: Replica, *texts: str) -> tuple[str, bytes]:
    """Let a replica answer a request; return the job and the whole stream."""
    with ask(replica.port) as stream:
        job = worker_of(replica).serve(*texts)
        stream.rest()
        return job.job_id, stream.raw


def test_a_stream_is_the_same_through_every_replica(pair: list[Replica]) -> None:
    before = forwarded(pair[1], "stream", "passed")
    job_id, whole = finished(pair[0], "Ü", "b\n", "c")
    with resume(pair[1].port, job_id) as there, resume(pair[0].port, job_id) as here:
        there.rest()
        here.rest()
        assert there.raw == here.raw == whole
        apart = ("date", "x-correlation-id", "x-request-id")
        assert {k: v for k, v in there.headers.items() if k not in apart} == {
            k: v for k, v in here.headers.items() if k not in apart
        }
        assert there.headers["x-correlation-id"] == here.headers["x-correlation-id"], "the job's own"
    wait_until(lambda: forwarded(pair[1], "stream", "passed") == before + 1, "it is counted")


def test_a_reader_goes_on_at_another_replica_without_a_gap(pair: list[Replica]) -> None:
    first = ask(pair[0].port, headers={"X-Correlation-Id": "turn-1"})
    job = worker_of(pair[0]).begin()
    worker_of(pair[0]).speak(job, "a", "b")
    seen = [first.next("queued"), first.next("token"), first.next("token")]
    first.close(hard=True)
    with resume(pair[1].port, job.job_id, seen[-1].id) as again:
        opening = again.next()
        worker_of(pair[0]).speak(job, "c", "d", start=2)
        worker_of(pair[0]).finish(job, 4)
        events = again.rest()
    assert (again.headers["x-replay"], opening.name, opening.data["gap"]) == ("replay", "replay", False)
    last = int(seen[-1].id.rpartition("-")[2])
    assert [int(event.id.rpartition("-")[2]) for event in events] == list(range(last + 1, last + 1 + len(events)))
    text = text_of(seen + events)
    assert text == "abcd"
    assert events[-2].data["text_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    with resume(pair[1].port, job.job_id, events[-1].id) as stream:
        assert stream.status == 204


def test_questions_travel_with_all_that_they_say(pair: list[Replica]) -> None:
    job_id, _ = finished(pair[0], "a")
    with resume(pair[1].port, job_id, query="?channels=narration&after=1") as stream:
        assert {event.name for event in stream.rest()}.isdisjoint({"token"})
    for query, code in (("?after=x", "invalid_cursor"), ("?channels=gossip%20%23", "invalid_request")):
        there = httpx.get(f"{pair[1].relay.url}/v1/inference/{job_id}/stream{query}", headers={"X-Request-Id": "r7"})
        here = httpx.get(f"{pair[0].relay.url}/v1/inference/{job_id}/stream{query}", headers={"X-Request-Id": "r7"})
        assert (there.status_code, there.content) == (here.status_code, here.content)
        assert_error(there, 400, code)
        assert there.headers["x-correlation-id"] == "r7"


def test_a_snapshot_and_a_cancellation_find_their_job(pair: list[Replica]) -> None:
    with ask(pair[0].port) as stream:
        job = worker_of(pair[0]).begin()
        worker_of(pair[0]).speak(job, "a")
        stream.next("token")
        shown = httpx.get(f"{pair[1].relay.url}/v1/inference/{job.job_id}")
        assert (shown.status_code, shown.json()["text"], shown.headers["x-job-id"]) == (200, "a", job.job_id)
        assert httpx.head(f"{pair[1].relay.url}/v1/inference/{job.job_id}").status_code == 200
        for _ in range(2):
            cancelled = httpx.delete(f"{pair[1].relay.url}/v1/inference/{job.job_id}")
            assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        assert worker_of(pair[0]).receive(frames.Cancel).job_id == job.job_id
        assert stream.rest()[-2].data["error"]["code"] == "cancelled"


def test_a_job_that_its_owner_does_not_know_is_its_owner_s_to_deny(pair: list[Replica]) -> None:
    unknown = "sim-0-0123456789abcdef"
    assert_error(httpx.get(f"{pair[1].relay.url}/v1/inference/{unknown}"), 404, "job_not_found")
    lost = httpx.get(
        f"{pair[1].relay.url}/v1/inference/{unknown}/stream", headers={"Last-Event-ID": f"{unknown}-oldepoch-3"}
    )
    assert_error(lost, 410, "job_lost", retryable=True)


# Nobody goes in a circle, and nobody is sent anywhere else


def test_a_request_is_forwarded_once_only(pair: list[Replica]) -> None:
    for hop, job in (("sim-0", "sim-0-0123456789abcdef"), ("x" * 500, "sim-0-0123456789abcdef")):
        for method in ("GET", "DELETE"):
            answer = httpx.request(method, f"{pair[1].relay.url}/v1/inference/{job}", headers={names.HOP_HEADER: hop})
            assert_error(answer, 421, "misdirected")
    hopped = {names.HOP_HEADER: "sim-0"}
    astray = httpx.get(f"{pair[1].relay.url}/v1/inference/chat-0-0123456789abcdef", headers=hopped)
    assert_error(astray, 421, "misdirected")  # an address that was another resource's a moment ago
    answer = httpx.get(f"{pair[1].relay.url}/v1/inference/sim-1-0123456789abcdef", headers=hopped)
    assert_error(answer, 404, "job_not_found")


def test_who_calls_itself_is_told(pair: list[Replica]) -> None:
    own = {names.HOP_HEADER: "sim-1"}
    assert_error(httpx.get(f"{pair[1].relay.url}/v1/correlations/c/stream", headers=own), 421, "misdirected")
    asked = httpx.post(f"{pair[1].relay.url}/v1/inference", json={"prompt": "x"}, headers=own)
    assert_error(asked, 421, "misdirected")


def test_a_wrong_list_makes_no_circle() -> None:
    """sim-0 is said to be where sim-1 is, and the other way round."""
    ports = [free_port(), free_port()]
    wrong = f"sim-0=127.0.0.1:{ports[1]},sim-1=127.0.0.1:{ports[0]},sim-2=127.0.0.1:{ports[0]}"
    with replicas(environ={names.ENV_PEERS: wrong.replace(str(ports[0]), "1").replace(str(ports[1]), "2")}) as two:
        answer = httpx.get(f"{two[0].relay.url}/v1/inference/sim-1-0123456789abcdef")
        assert_error(answer, 503, "owner_unreachable", retryable=True)


@pytest.mark.parametrize(
    "job",
    [
        "127.0.0.1:PORT-0123456789abcdef", "localhost-0123456789abcdef", "sim-9-0123456789abcdef",
        "sim-0.evil-0123456789abcdef", "SIM-0-0123456789abcdef", "sim-0@127.0.0.1:PORT-0123456789abcdef",
        "sim-0-0123456789abcdeu", "sim-0-0123456789abcde", "sim-00-0123456789abcdef", "-0123456789abcdef",
        "sim-0%2f..%2fx-0123456789abcdef", "sim-0%00-0123456789abcdef", "s" * 5000 + "-0123456789abcdef",
        "sim-0-0123456789abcdef%0a", "sim--0123456789abcdef", "%2e%2e-0123456789abcdef",
    ],
)  # fmt: skip
def test_no_job_id_makes_us_call_a_stranger(pair: list[Replica], job: str) -> None:
    before = calls_of(pair[1])
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.2)
        path = job.replace("PORT", str(stranger.getsockname()[1]))
        for tail in ("", "/stream"):
            answer = httpx.get(f"{pair[1].relay.url}/v1/inference/{path}{tail}")
            assert answer.status_code == 404, answer.text
        with pytest.raises(TimeoutError):
            stranger.accept()
    assert calls_of(pair[1]) == before


def calls_of(replica: Replica) -> list[str]:
    """Return what a replica says of its calls to others, however they ended."""
    told = httpx.get(f"{replica.relay.admin_url}/metrics").text.splitlines()
    return [line for line in told if line.startswith("rhapsode_requests_forwarded_total")]

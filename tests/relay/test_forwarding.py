"""A job is read, shown and cancelled through whatever replica the client meets: its owner answers, byte for byte."""

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from rhapsode_contract import frames, names
from support.fake_worker import FakeWorker
from support.processes import Relay, free_port, running_relay, wait_until
from support.replicas import Replica, replicas
from support.requests import assert_error
from support.streams import Stream, ask, resume, text_of


@pytest.fixture(scope="module")
def pair() -> Iterator[list[Replica]]:
    """Two ready replicas, for tests that leave nothing behind."""
    with replicas() as two:
        yield two


def worker_of(replica: Replica) -> FakeWorker:
    assert replica.worker is not None
    return replica.worker


def counted(relay: Relay, kind: str, result: str) -> float:
    return relay.metric(f'rhapsode_requests_forwarded_total{{kind="{kind}",result="{result}"}}')


def finished(replica: Replica, *texts: str) -> tuple[str, bytes]:
    """Let a replica answer a request; return the job and the whole stream."""
    with ask(replica.port) as stream:
        job = worker_of(replica).serve(*texts)
        stream.rest()
        return job.job_id, stream.raw


def test_a_stream_is_the_same_through_every_replica(pair: list[Replica]) -> None:
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
    assert counted(pair[1].relay, "stream", "passed") == 1


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
    before = [pair[0].relay.metric("rhapsode_relay_readers"), len(pair[0].relay.lines)]
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.2)
        path = job.replace("PORT", str(stranger.getsockname()[1]))
        for tail in ("", "/stream"):
            answer = httpx.get(f"{pair[1].relay.url}/v1/inference/{path}{tail}")
            assert answer.status_code == 404, answer.text
        with pytest.raises(TimeoutError):
            stranger.accept()
    assert before == [pair[0].relay.metric("rhapsode_relay_readers"), len(pair[0].relay.lines)]


# What breaks


def test_an_owner_that_is_killed_ends_the_stream_without_done_and_comes_back() -> None:
    with replicas() as (owner, other):
        with ask(owner.port) as stream:
            job = worker_of(owner).begin()
            worker_of(owner).speak(job, "a", "b")
            seen = stream.until("token")
        with resume(other.port, job.job_id, seen[-1].id) as again:
            again.next("token")
            owner.die()
            assert "done" not in [event.name for event in again.rest()]
            assert not again.ended, "the body has no proper end"
        away = httpx.get(f"{other.relay.url}/v1/inference/{job.job_id}/stream", headers={"X-Request-Id": "r9"})
        error = assert_error(away, 503, "owner_unreachable", retryable=True)
        assert "sim-0" in error["message"]
        assert int(away.headers["retry-after"]) >= 1
        assert other.relay.wait_record("owner_unreachable")["correlation_id"] == "r9"
        assert counted(other.relay, "stream", "unreachable") == 1
        assert counted(other.relay, "stream", "broken") == 1
        owner.return_()
        owner.worker = FakeWorker(owner.relay.socket, ready=False)
        state = frames.JobState(job_id=job.job_id, text="ab", tokens=2, meta=job.meta)
        owner.worker.send(frames.Resume(job=state), frames.State(phase="ready", caps=frames.Caps(slots=8)))
        with resume(other.port, job.job_id, seen[-1].id) as again:
            opening = again.next("snapshot")
            owner.worker.speak(job, "c", start=2)
            owner.worker.finish(job, 3)
            events = again.rest()
        text = text_of([opening, *events])
        assert text == "abc"
        assert events[-2].data["text_sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_an_owner_that_hangs_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        peers = {names.ENV_PEERS: f"sim-7=127.0.0.1:{port}"}
        with running_relay(environ=peers) as relay:
            answer = httpx.get(f"{relay.url}/v1/inference/sim-7-0123456789abcdef", timeout=30)
            assert_error(answer, 503, "owner_unreachable", retryable=True)


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 100_000, b""])
def test_an_owner_that_talks_nonsense_is_as_good_as_none(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def talk() -> None:
            for _ in range(2 if not answer else 1):  # a question is asked again when nothing at all came
                with odd.accept()[0] as connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        with running_relay(environ={names.ENV_PEERS: f"sim-7=127.0.0.1:{odd.getsockname()[1]}"}) as relay:
            got = httpx.get(f"{relay.url}/v1/inference/sim-7-0123456789abcdef")
            assert_error(got, 503, "owner_unreachable", retryable=True)
        thread.join(10)


# Who leaves, and who reads slowly


def test_a_client_that_leaves_the_forwarder_has_left_the_owner() -> None:
    with replicas(graceSeconds=0) as (owner, other):
        with ask(owner.port) as first:
            job = worker_of(owner).begin()
            first.next("started")
            second = resume(other.port, job.job_id)
            second.next("started")
        wait_until(lambda: owner.relay.metric("rhapsode_relay_readers") == 1, "only the forwarded reader is left")
        second.close(hard=True)
        assert worker_of(owner).receive(frames.Cancel).job_id == job.job_id
        wait_until(lambda: counted(other.relay, "stream", "left") == 1, "the forwarder has let go")


def test_a_frozen_reader_behind_a_forwarder_costs_no_memory_and_is_cut_off_by_someone() -> None:
    total = 150_000
    with replicas(onDisconnect="continue") as (owner, other):
        with ask(owner.port, max_tokens=1_000_000) as stream:
            job = worker_of(owner).begin()
            stream.next("started")
            frozen = resume(other.port, job.job_id)
            before = psutil.Process(other.relay.pid).memory_info().rss
            for i in range(0, total, 500):
                worker_of(owner).send(frames.Token(job_id=job.job_id, i=i, ts="\x7f".join(["word "] * 500)))
                while stream.next("token").data["i"] < i + 499:
                    continue
            worker_of(owner).finish(job, total)
            assert stream.rest()[-2].name == "end"
        assert psutil.Process(other.relay.pid).memory_info().rss - before < 16 * 2**20
        wait_until(lambda: other.relay.metric("rhapsode_relay_readers") == 0, "nobody reads", 5)
        wait_until(
            lambda: counted(other.relay, "stream", "stalled") + counted(other.relay, "stream", "broken") == 1,
            "the frozen reader is cut off", 40,
        )  # fmt: skip
        frozen.close()


def test_a_slow_reader_behind_a_forwarder_gets_every_token() -> None:
    with replicas(onDisconnect="continue") as (owner, other):
        with ask(owner.port, max_tokens=100_000) as first:
            job = worker_of(owner).begin()
            first.next("started")
        slow = Stream(other.port, f"/v1/inference/{job.job_id}/stream", receive_buffer=8192, chunk=4096)
        for i in range(0, 20_000, 100):
            worker_of(owner).send(frames.Token(job_id=job.job_id, i=i, ts="\x7f".join(["word"] * 100)))
        worker_of(owner).finish(job, 20_000)
        tokens = 0
        for event in slow.events():
            if event.name == "token":
                assert event.data["i"] == tokens
                tokens += 1
                if tokens % 4000 == 0:
                    time.sleep(0.05)
        slow.close()
    assert tokens == 20_000


def test_a_relay_that_ends_sends_those_whom_it_forwards_to_another() -> None:
    import signal

    with replicas() as (owner, other):
        with ask(owner.port) as stream:
            job = worker_of(owner).begin()
            stream.next("started")
            through = resume(other.port, job.job_id)
            through.next("started")
            other.relay.send(signal.SIGTERM)
            through.rest()
            assert not through.ended
            assert other.relay.wait() == 0
            assert not [line for line in other.relay.errors if "Traceback" in line]
            worker_of(owner).finish(job, 0)
            assert stream.rest()[-1].name == "done"
        through.close()


def test_a_relay_alone_does_not_carry_the_client() -> None:
    def maps(pid: int) -> bool:
        return any("aiohttp" in one.path for one in psutil.Process(pid).memory_maps())

    with running_relay() as alone, replicas(1) as (one,):
        assert not maps(alone.pid)
        assert not maps(one.relay.pid), "not even with peers, as long as none is called"
        json.loads(alone.get("/v1/worker").text)

"""What a forwarded stream does when its owner dies, hangs or talks nonsense, and when its reader leaves or freezes."""

import contextlib
import hashlib
import signal
import socket
import threading
import time

import httpx
import psutil
import pytest

from rhapsode_contract import frames, names
from support.fake_worker import FakeWorker
from support.processes import running_relay, wait_until
from support.replicas import forwarded, replicas, worker_of
from support.requests import assert_error
from support.streams import Stream, ask, resume, text_of


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
        assert forwarded(other, "stream", "unreachable") == 1
        assert forwarded(other, "stream", "broken") == 1
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
            answer = httpx.get(f"{relay.url}/v1/inference/sim-7-0123456789abcdef")
            assert_error(answer, 503, "owner_unreachable", retryable=True)


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 100_000, b""])
def test_an_owner_that_talks_nonsense_is_as_good_as_none(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def talk() -> None:
            for _ in range(2 if not answer else 1):  # a question is asked again when nothing at all came
                with odd.accept()[0] as connection, contextlib.suppress(OSError):  # who asked may have had enough
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
        wait_until(lambda: forwarded(other, "stream", "left") == 1, "the forwarder has let go")


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
        wait_until(lambda: other.relay.metric("rhapsode_relay_readers") == 0, "nobody reads")
        wait_until(
            lambda: forwarded(other, "stream", "stalled") + forwarded(other, "stream", "broken") == 1,
            "the frozen reader is cut off",
        )
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

"""How a relay ends, and what readers that refuse data cost it."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from rhapsode_contract import frames, names
from support.conversations import conversing
from support.fake_worker import FakeWorker
from support.patience import patient
from support.processes import DEADLINE_S, Relay, Running, free_port, manifest, running_relay, wait_until
from support.requests import assert_error
from support.streams import Stream, ask, resume, text_of


@pytest.fixture
def unhurried() -> Iterator[tuple[Relay, FakeWorker]]:
    """A relay and its worker: whoever waits for a drain or for a frozen reader to be cut off waits for minutes."""
    settings = patient(stall_s=600.0)
    with running_relay(manifest(drainSeconds=600), settings) as relay, FakeWorker(relay.socket) as worker:
        yield relay, worker


def test_sigterm_lets_who_runs_finish_and_sends_who_waits_away() -> None:
    with running_relay() as relay, FakeWorker(relay.socket, slots=1) as worker:
        with ask(relay.port, "runs") as runs, ask(relay.port, "waits") as waits:
            job = worker.begin()
            worker.speak(job, "a")
            runs.next("token")
            relay.send(signal.SIGTERM)
            sent_away = waits.rest()[-2].data
            assert (sent_away["error"]["code"], sent_away["retryable"]) == ("draining", True)
            refused = relay.client.post("/v1/inference", json={"prompt": "late"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
            assert int(refused.headers["retry-after"]) >= 1
            worker.speak(job, "b", start=1)
            worker.finish(job, 2)
            events = runs.rest()
        assert text_of(events) == "b"
        assert events[-2].name == "end"
        assert runs.ended, "the body ends properly"
        assert relay.wait() == 0
        assert not relay.socket.exists()


def test_at_the_deadline_there_is_one_retryable_goodbye() -> None:
    with conversing(drainSeconds=1) as (relay, worker, stream):
        job = worker.begin()
        worker.speak(job, "a")
        stream.next("token")
        began = time.monotonic()
        relay.send(signal.SIGTERM)
        events = stream.rest()
        error = events[-2].data
        assert (error["error"]["code"], error["error"]["partial"], error["retryable"]) == (
            "server_shutdown",
            True,
            True,
        )
        assert events[-1].name == "done"
        assert stream.ended
        assert relay.wait() == 0
        assert time.monotonic() - began >= 1, "not before the deadline"


@pytest.mark.parametrize("sent", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM)])
def test_who_is_in_a_hurry_does_not_wait_for_the_drain(sent: tuple[signal.Signals, ...]) -> None:
    with conversing(drainSeconds=600) as (relay, worker, stream):
        worker.begin()
        stream.next("started")
        for count, one in enumerate(sent):
            if count:
                relay.wait_record("relay_drain")  # the kernel makes one of two signals that nobody took
            relay.send(one)
        assert stream.rest()[-2].data["error"]["code"] == "server_shutdown"
        assert relay.wait() == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_waits_for_what_the_worker_may_bring_is_told_when_the_relay_ends(tmp_path: Path, method: str) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "worker.sock"))  # what is left of a relay that was killed
    path = {"GET": "/v1/inference/sim-000000000000000a", "POST": "/v1/inference"}[method]
    relay = Relay(manifest(), tmp_path, free_port(), free_port(), patient(reunion_s=600.0))
    with contextlib.closing(relay), ThreadPoolExecutor() as pool:
        body, key = {"prompt": "a"}, {"Idempotency-Key": "k"}
        asked = pool.submit(httpx.request, method, relay.url + path, json=body, headers=key, timeout=DEADLINE_S)
        time.sleep(0.2)
        assert not asked.done(), "it waits for the worker"
        relay.send(signal.SIGTERM)
        assert_error(asked.result(), 503, "draining", retryable=True)
        assert relay.wait() == 0


def test_a_relay_that_ends_leaves_the_socket_of_its_successor_alone(relay: Relay) -> None:
    """It waits for a client while it listens no more; who comes next takes its place in that second."""
    with socket.create_connection(("127.0.0.1", relay.port)) as client, socket.socket(socket.AF_UNIX) as successor:
        client.sendall(b"POST /v1/inference HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        relay.send(signal.SIGTERM)
        wait_until(lambda: _is_deserted(relay.socket), "it listens no more")
        relay.socket.unlink(missing_ok=True)
        successor.bind(str(relay.socket))
        assert relay.wait() == 0
        assert relay.socket.exists()


def _is_deserted(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return True
    return False


def test_idle_and_frozen_readers_never_delay_the_exit(unhurried: tuple[Relay, FakeWorker]) -> None:
    relay, worker = unhurried
    lifecycle = Stream(relay.port, "/v1/worker/stream")
    screen = Stream(relay.port, "/v1/correlations/c/stream")
    idle = socket.create_connection(("127.0.0.1", relay.port))
    frozen = ask(relay.port, max_tokens=100_000)
    job = worker.begin()
    for i in range(0, 60_000, 500):
        worker.send(frames.Token(job_id=job.job_id, i=i, ts="\x7f".join(["word"] * 500)))
    worker.finish(job, 60_000)
    wait_until(lambda: relay.get(f"/v1/inference/{job.job_id}").json()["status"] == "completed", "the job is over")
    relay.send(signal.SIGTERM)
    assert relay.wait() == 0
    for stream in (lifecycle, screen):
        stream.rest()
        assert stream.ended
        stream.close()
    frozen.close()
    idle.close()


def test_a_frozen_reader_takes_no_memory_and_stalls_nobody_and_can_come_back() -> None:
    with running_relay(manifest(onDisconnect="continue")) as relay, FakeWorker(relay.socket) as worker:
        frozen = ask(relay.port, max_tokens=1_000_000, headers={})
        frozen.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        job = worker.begin()
        with resume(relay.port, job.job_id) as reader:
            reader.next("started")
            memory: list[int] = []
            total = 200_000
            for i in range(0, total, 500):
                worker.send(frames.Token(job_id=job.job_id, i=i, ts="\x7f".join(["word "] * 500)))
                reader_until = i + 500
                while reader.next("token").data["i"] < reader_until - 1:
                    continue
                if i % 20_000 == 0:
                    memory.append(psutil.Process(relay.pid).memory_info().rss)
            worker.finish(job, total)
            assert reader.rest()[-2].name == "end"
        assert memory[-1] - memory[2] < 16 * 2**20, "beside the text itself"
        wait_until(lambda: relay.metric("rhapsode_relay_readers_stalled_total") == 1, "the frozen reader is cut off")
        frozen.close()
        with resume(relay.port, job.job_id, f"{job.job_id}-oldepoch-1") as again:
            events = again.rest()
        assert text_of(events) == "word " * total


def test_a_slow_reader_gets_every_token(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port, max_tokens=100_000) as stream:
        job = worker.begin()
        worker.send(
            *(frames.Token(job_id=job.job_id, i=i, ts="\x7f".join(["word"] * 100)) for i in range(0, 40_000, 100))
        )
        worker.finish(job, 40_000)
        tokens = 0
        for event in stream.events():
            if event.name == "token":
                assert event.data["i"] == tokens
                tokens += 1
                if tokens % 4000 == 0:
                    time.sleep(0.05)
    assert tokens == 40_000


def test_a_frozen_worker_is_let_go_in_the_end() -> None:
    """A supervisor that hangs keeps its socket open: its readers would wait for ever."""
    with conversing() as (_, worker, stream):
        worker.begin()
        assert isinstance(worker.receive(frames.Ping), frames.Ping)
        assert stream.rest()[-2].data["error"]["code"] == "worker_lost"


def test_a_worker_that_answers_pings_is_kept_however_long_it_thinks(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.begin()
        for _ in range(2):
            worker.receive(frames.Ping)
            worker.send(frames.Stats(active=1))
        worker.speak(job, "a")
        worker.finish(job, 1)
        assert text_of(stream.rest()) == "a"


def test_the_exit_of_the_parent_ends_the_relay(tmp_path: Path) -> None:
    """`rhapsode play` holds our standard input; when it is killed, nobody else would end us."""
    (tmp_path / "m.json").write_text(json.dumps(manifest()))
    environ = {
        names.ENV_MANIFEST: str(tmp_path / "m.json"),
        names.ENV_SOCKET: str(tmp_path / "w.sock"),
        names.ENV_PORT: str(free_port()),
        names.ENV_ADMIN_PORT: str(free_port()),
        names.ENV_LIFELINE: "1",
    }
    orphan = Running([sys.executable, "-m", "rhapsode_relay"], environ, stdin=subprocess.PIPE)
    orphan.wait_record("relay_start")
    assert orphan.process.stdin is not None
    orphan.process.stdin.close()
    assert orphan.wait() == 0
    orphan.close()

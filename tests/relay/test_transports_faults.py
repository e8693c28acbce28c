"""Readers that stop reading or vanish, on every transport: nobody else is touched, and they may come back."""

import signal
import subprocess
import sys

import psutil
import pytest

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay, manifest, running_relay, wait_until
from support.requests import post
from support.streams import text_of
from support.transports import TRANSPORTS, Transport, is_over

_CLIENT = """
import sys, time
from support.transports import TRANSPORTS
transport = next(one for one in TRANSPORTS if one.name == sys.argv[1])
stream = transport.open(int(sys.argv[2]), sys.argv[3])
stream.next("started")
print("reading", flush=True)
time.sleep(60)
"""


@pytest.fixture(params=TRANSPORTS, ids=lambda transport: transport.name)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


def test_a_frozen_reader_costs_no_memory_is_sent_away_and_may_come_back(transport: Transport) -> None:
    with running_relay(manifest(onDisconnect="continue")) as relay, FakeWorker(relay.socket) as worker:
        job_id = post(relay, {"prompt": "a", "max_tokens": 1_000_000}).json()["job_id"]
        frozen = transport.open(relay.port, job_id, receive_buffer=4096)
        job, total, memory = worker.begin(), 200_000, []
        with transport.open(relay.port, job_id, query="?channels=token") as reader:
            reader.next("started")
            for i in range(0, total, 500):
                worker.send(frames.Token(job_id=job.job_id, i=i, ts="\x7f".join(["word "] * 500)))
                while reader.next("token").data["i"] < i + 499:
                    continue
                if i % 20_000 == 0:
                    memory.append(psutil.Process(relay.pid).memory_info().rss)
            worker.finish(job, total)
            assert reader.rest()[-1].name == "done"
        assert memory[-1] - memory[2] < 16 * 2**20, "beside the text itself"
        stalled = "rhapsode_relay_readers_stalled_total"
        wait_until(lambda: relay.metric(stalled) == 1, "the frozen reader is sent away")
        seen = frozen.rest()
        assert not is_over(frozen), "it may come back"
        assert relay.metric(stalled) == 1, "once"
        frozen.close()
        with transport.open(relay.port, job_id, seen[-1].id) as again:
            assert text_of(seen + again.rest()) == "word " * total


def test_a_slow_reader_that_takes_its_time_gets_every_token(
    relay: Relay, worker: FakeWorker, transport: Transport
) -> None:
    job_id = post(relay, {"prompt": "a", "max_tokens": 100_000}).json()["job_id"]
    with transport.open(relay.port, job_id, receive_buffer=4096, chunk=2048) as stream:
        job = worker.begin()
        worker.send(
            *(frames.Token(job_id=job_id, i=i, ts="\x7f".join(["word"] * 100)) for i in range(0, 20_000, 100))
        )
        worker.finish(job, 20_000)
        assert [event.data["i"] for event in stream.rest() if event.name == "token"] == list(range(20_000))
    assert is_over(stream)


def test_a_client_that_is_killed_has_left(relay: Relay, worker: FakeWorker, transport: Transport) -> None:
    job_id = post(relay, {"prompt": "a", "on_disconnect": "cancel"}).json()["job_id"]
    worker.begin()
    command = [sys.executable, "-c", _CLIENT, transport.name, str(relay.port), job_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd="tests") as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"reading\n"
        client.send_signal(signal.SIGKILL)
        assert worker.receive(frames.Cancel).job_id == job_id, "its last reader is gone"


def test_one_of_two_readers_that_leaves_changes_nothing(
    relay: Relay, worker: FakeWorker, transport: Transport
) -> None:
    job_id = post(relay, {"prompt": "a", "on_disconnect": "cancel"}).json()["job_id"]
    with transport.open(relay.port, job_id) as stays:
        job = worker.begin()
        leaves = transport.open(relay.port, job_id)
        leaves.next("started")
        leaves.close(hard=True)
        worker.speak(job, "a", "b")
        worker.finish(job, 2)
        assert text_of(stays.rest()) == "ab"

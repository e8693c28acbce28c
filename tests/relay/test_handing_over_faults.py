"""Requests on their way to another replica: many at once, the same twice, to one that lies, through one that ends."""

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import msgspec
import pytest

from rhapsode_contract import events, names
from rhapsode_relay.calling import Call, Caller, Unreachable
from rhapsode_relay.peers import Address
from support.patience import FOLDER, PEER_SLACK, patient
from support.processes import DEADLINE_S, running_relay, wait_until
from support.replicas import Replica, replicas, worker_of
from support.requests import post
from support.streams import ask, names_of, resume, text_of

AT_ONCE = 8


@pytest.fixture(scope="module")
def three() -> Iterator[list[Replica]]:
    """One that loads and two that are ready."""
    with replicas(3, ready=0) as started, contextlib.ExitStack() as breathing:
        for one in started[1:]:
            breathing.enter_context(one.come().breathing())
        yield started


def post_at_once(replica: Replica, count: int, **headers: str) -> list[str]:
    """Ask so many times at the same moment; return the jobs."""
    together = threading.Barrier(count)

    def ask_one(_: int) -> str:
        together.wait(DEADLINE_S)
        answer = post(replica.relay, {"prompt": "x"}, **headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask_one, range(count)))


def test_requests_that_come_together_are_spread_over_those_who_are_ready(three: list[Replica]) -> None:
    owners = [job[: len("sim-1")] for job in post_at_once(three[0], AT_ONCE)]
    assert set(owners) == {"sim-1", "sim-2"}
    assert min(map(owners.count, set(owners))) >= AT_ONCE // 4


def test_requests_of_one_key_that_come_together_are_one_job(three: list[Replica]) -> None:
    assert len(set(post_at_once(three[0], AT_ONCE, **{"Idempotency-Key": "twice"}))) == 1


def test_a_machine_that_is_slow_to_load_the_client_hands_over_its_first_request_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text((FOLDER / "sitecustomize.py").read_text() + SLOW_IMPORT)
    with replicas(2, ready=0, environ={"PYTHONPATH": str(tmp_path)}) as two:
        worker = two[1].come()
        with ask(two[0].port) as stream:
            assert stream.headers["x-job-id"].startswith("sim-1-")
            worker.serve("a")
            assert text_of(stream.rest()) == "a"


SLOW_IMPORT = """
import importlib.abc, sys, time

class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "aiohttp":
            time.sleep(1.5)

sys.meta_path.insert(0, Slow())
"""


@pytest.mark.parametrize("answer", [b"", b"401 Unauthorized", b"404 Not Found", b"421 Misdirected Request"])
def test_a_peer_that_lies_or_hangs_delays_no_one_for_long(answer: bytes) -> None:
    """It says that it is ready, and does not take the request, or never says; the request is ours after all."""
    state = events.Worker(seq=0, worker_id="sim-7", phase="ready", running=0, queued=0)
    body = msgspec.json.encode(state)
    ready = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    refusal = b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\n{}" % answer if answer else b""
    with socket.create_server(("127.0.0.1", 0)) as liar:
        kept: list[socket.socket] = []

        def lie() -> None:
            for said in (ready, refusal):
                connection = liar.accept()[0]
                kept.append(connection)
                with contextlib.suppress(OSError):  # it may have been given up
                    connection.recv(65536)
                    connection.sendall(said)

        thread = threading.Thread(target=lie, daemon=True)
        thread.start()
        listed = {names.ENV_PEERS: f"sim-7=127.0.0.1:{liar.getsockname()[1]}"}
        with running_relay(environ=listed) as relay, ask(relay.port) as stream:  # which waits a minute at most
            assert stream.headers["x-job-id"].startswith("sim-")
            assert names_of([stream.next()]) == ["queued"]
        thread.join(10)  # it still listens if the relay gave up before it asked
        for connection in kept:
            connection.close()


def test_a_relay_that_ends_stays_for_what_it_handed_over() -> None:
    """Else the policy `cancel` would end, at each rollout, jobs that run elsewhere."""
    with replicas(2, onDisconnect="cancel") as (ending, other):
        httpx.post(f"{ending.relay.admin_url}/v1/drain")
        with ask(ending.port) as stream:
            job = worker_of(other).begin()
            worker_of(other).speak(job, "a")
            stream.next("token")
            ending.relay.send(signal.SIGTERM)
            ending.relay.wait_record("relay_drain", count=2)
            worker_of(other).speak(job, "b", start=1)
            stream.next("token")
            worker_of(other).finish(job, 2)
            assert stream.rest()[-2].name == "end"
            assert stream.ended
        assert ending.relay.wait() == 0


def test_a_relay_that_ends_waits_no_longer_for_others_than_for_its_own() -> None:
    with replicas(2, drainSeconds=1) as (ending, other):
        httpx.post(f"{ending.relay.admin_url}/v1/drain")
        with ask(ending.port) as stream:
            job = worker_of(other).begin()
            stream.next("started")
            ending.relay.send(signal.SIGTERM)
            assert "done" not in [event.name for event in stream.rest()]
            assert not stream.ended
        assert ending.relay.wait() == 0
        worker_of(other).finish(job, 0)


class SilentPeer:
    """It says that it is ready, and takes requests without a word."""

    def __init__(self, worker_id: str) -> None:
        self.taken: list[str] = []
        peer, state = self, events.Worker(seq=0, worker_id=worker_id, phase="ready", running=0, queued=0)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(msgspec.json.encode(state))

            def do_POST(self) -> None:
                peer.taken.append(self.headers["Idempotency-Key"])
                self.connection.settimeout(DEADLINE_S)
                while self.connection.recv(65536):
                    continue

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"{worker_id}=127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_client_that_did_not_wait_for_the_answer_asks_the_same_replica_again() -> None:
    peers = [SilentPeer("sim-7"), SilentPeer("sim-8")]
    head = b"POST /v1/inference HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 14\r\n\r\n"
    listed = {names.ENV_PEERS: ",".join(peer.address for peer in peers)}
    with running_relay(environ=patient(peer_slack=PEER_SLACK) | listed) as relay:
        for count in (1, 2, 3):
            with socket.create_connection(("127.0.0.1", relay.port)) as client:
                client.sendall(head + b'{"prompt":"x"}')
                wait_until(lambda: sum(len(peer.taken) for peer in peers) == count, "a replica has it")  # noqa: B023
        assert [len(peer.taken) for peer in peers] == [3, 0]
    for peer in peers:
        peer.close()


def test_a_relay_that_ends_is_read_through_others_until_its_jobs_are_over() -> None:
    with replicas(2) as (ending, other), ask(ending.port) as stream:
        job = worker_of(ending).begin()
        stream.next("started")
        ending.relay.send(signal.SIGTERM)
        ending.relay.wait_record("relay_drain")
        with resume(other.port, job.job_id) as again:
            again.next("started")
            worker_of(ending).speak(job, "a")
            again.next("token")
            assert httpx.get(f"{other.relay.url}/v1/inference/{job.job_id}").json()["text"] == "a"
            worker_of(ending).finish(job, 1)
            assert again.rest()[-1].name == "done"
            assert again.ended
        assert stream.rest()[-1].name == "done"


async def test_who_ends_calls_nobody_any_more() -> None:
    caller = Caller("sim-0", silence_s=1)
    await caller.close()
    with pytest.raises(Unreachable, match="ending"):
        await caller.open(Address("127.0.0.1", 9), Call(method="GET", path="/", headers=[]))


def test_two_that_load_do_not_send_each_other_their_requests() -> None:
    with replicas(2, ready=0) as two:
        streams = [ask(one.port) for one in two]
        assert [stream.headers["x-job-id"][:5] for stream in streams] == ["sim-0", "sim-1"]
        for one, stream in zip(two, streams, strict=True):
            one.come().serve("a")
            assert text_of(stream.rest()) == "a"
            stream.close()
        wait_until(lambda: all(one.relay.metric("rhapsode_relay_readers") == 0 for one in two), "all have left")


def test_a_slow_line_of_one_key_is_not_another_s(three: list[Replica]) -> None:
    keys = [{"Idempotency-Key": f"k-{number}"} for number in range(3)]
    jobs = [post(three[0].relay, {"prompt": "x"}, **key).json()["job_id"] for key in keys]
    assert len(set(jobs)) == 3
    assert not [job for job in jobs if job.startswith("sim-0-")]
    assert [post(three[0].relay, {"prompt": "x"}, **key).json()["job_id"] for key in keys] == jobs

"""What is no HTTP, has no end or is too much of it: it is refused, and harms nobody else."""

import contextlib
import json
import socket

import psutil
import pytest

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import DEADLINE_S, Relay, manifest, running_relay, wait_until
from support.requests import assert_error, exchange, post
from support.streams import ask, resume


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"NONSENSE\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n", 400, "invalid_http"),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
        (
            b"POST /v1/inference HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            400,
            "invalid_http",
        ),
    ],
)
def test_what_is_no_http_is_refused_in_our_shape(shared: Relay, sent: bytes, status: int, code: str) -> None:
    answer = exchange(shared.port, sent)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert body["error"]["code"] == code
    assert shared.get("/v1/models").status_code == 200


def test_an_endless_body_is_cut_off(shared: Relay) -> None:
    head = b"POST /v1/inference HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    before = psutil.Process(shared.pid).memory_info().rss
    with socket.create_connection(("127.0.0.1", shared.port), DEADLINE_S) as sock:
        sock.sendall(head)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            sock.sendall(chunk * 2000)  # 64 MiB
    assert psutil.Process(shared.pid).memory_info().rss - before < 16 * 2**20


def test_more_readers_than_the_limit_are_refused(relay: Relay, worker: FakeWorker) -> None:
    job_id = post(relay, {"prompt": "a"}).json()["job_id"]
    readers = [resume(relay.port, job_id) for _ in range(32)]
    assert_error(relay.get(f"/v1/inference/{job_id}/stream"), 503, "too_many_readers", retryable=True)
    for reader in readers:
        reader.close()


def test_a_frozen_reader_that_has_asked_for_more_in_advance_is_cut_off_like_any_other() -> None:
    """What it asked for next must not hide that it takes nothing of what it gets now."""
    running = running_relay(manifest(onDisconnect="continue"))
    with running as relay, FakeWorker(relay.socket) as worker, socket.socket() as frozen:
        frozen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        frozen.connect(("127.0.0.1", relay.port))
        body = json.dumps({"prompt": "x", "max_tokens": 1_000_000}).encode()
        head = b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        frozen.sendall(head + body)
        job = worker.begin()
        frozen.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        before = psutil.Process(relay.pid).memory_info().rss
        for i in range(0, 300_000, 500):
            worker.send(frames.Token(job_id=job.job_id, i=i, ts="\x7f".join(["word "] * 500)))
        worker.finish(job, 300_000)
        wait_until(lambda: relay.get(f"/v1/inference/{job.job_id}").json()["status"] == "completed", "all came")
        assert psutil.Process(relay.pid).memory_info().rss - before < 16 * 2**20
        wait_until(lambda: relay.metric("rhapsode_relay_readers_stalled_total") == 1, "it is cut off")


def test_a_reader_that_has_asked_for_more_in_advance_can_leave_like_any_other() -> None:
    with running_relay(manifest(graceSeconds=0)) as relay, FakeWorker(relay.socket) as worker:
        with ask(relay.port) as stream:
            job = worker.begin()
            for _ in range(3):
                stream.sock.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            stream.next("started")
        assert worker.receive(frames.Cancel).job_id == job.job_id
        wait_until(lambda: relay.metric("rhapsode_relay_readers") == 0, "it has left")


def test_who_asks_for_ever_more_without_reading_is_cut_off(shared: Relay) -> None:
    lost = contextlib.suppress(ConnectionResetError, BrokenPipeError)
    with socket.create_connection(("127.0.0.1", shared.port), DEADLINE_S) as sock, lost:
        sock.sendall(b"GET /v1/worker/stream HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        while sock.recv(65536):
            continue
    wait_until(lambda: shared.metric("rhapsode_relay_readers") == 0, "it has left")


def test_a_few_requests_at_once_are_answered_in_order(shared: Relay) -> None:
    asked = [b"/v1/models", b"/v1/worker", b"/v1/inference/none", b"/v1/models"]
    sent = b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in asked[:-1])
    answer = exchange(shared.port, sent + b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % asked[-1])
    words = (b'"object":"list"', b'"phase"', b"job_not_found", b'"object":"list"')
    assert [word in part for word, part in zip(words, answer.split(b"HTTP/1.1 ")[1:], strict=True)] == [True] * 4


def test_who_was_answered_once_cannot_keep_the_connection_by_saying_next_to_nothing(shared: Relay) -> None:
    """Nobody is asked for a key before that: without a bound, anyone could take all connections."""
    page = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    body = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with contextlib.ExitStack() as kept:
        clients = [
            kept.enter_context(socket.create_connection(("127.0.0.1", shared.port), DEADLINE_S)) for _ in range(3)
        ]
        asked = ((page, b"GET /v1/models HTTP/1.1\r\n"), (page, b"\r\n"), (body, b"x"))
        for client, (first, more) in zip(clients, asked, strict=True):
            client.sendall(first)
            assert client.recv(100).startswith(b"HTTP/1.1 ")
            client.sendall(more)
        for client in clients:
            while client.recv(65536):  # until it is closed
                continue

"""What is no HTTP, has no end or is too much of it: it is refused, and harms nobody else."""

import json
import socket

import psutil
import pytest

from support.fake_worker import FakeWorker
from support.processes import Relay
from support.requests import assert_error, exchange, post
from support.streams import resume


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
    with socket.create_connection(("127.0.0.1", shared.port), 10) as sock:
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

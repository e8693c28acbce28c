"""What a client may ask, and how it is refused: real statuses, one shape of errors, nothing that harms the relay."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay, manifest, running_relay, wait_until
from support.streams import Stream, ask, resume, text_of


@pytest.fixture(scope="module")
def shared() -> Iterator[Relay]:
    """A relay with a ready worker, for tests that leave nothing behind."""
    with running_relay() as running, FakeWorker(running.socket):
        wait_until(lambda: running.get("/v1/worker").json()["phase"] == "ready", "the worker is ready")
        yield running


def post(relay: Relay, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    return httpx.post(f"{relay.url}/v1/inference", content=content, headers=headers)


def assert_error(answer: httpx.Response, status: int, code: str, *, retryable: bool = False) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"error", "correlation_id", "retryable"}
    assert body["error"].keys() <= {"message", "type", "code", "param"}
    assert (body["error"]["code"], body["retryable"]) == (code, retryable)
    assert body["correlation_id"] == answer.headers["x-correlation-id"]
    error: dict[str, Any] = body["error"]
    return error


def test_a_request_without_sse_is_answered_202_with_links(relay: Relay, worker: FakeWorker) -> None:
    answer = post(relay, {"prompt": "hi"})
    assert answer.status_code == 202
    body = answer.json()
    job_id = body["job_id"]
    path = f"/v1/inference/{job_id}"
    assert body["sse_url"] == f"{path}/stream"
    assert body["links"] == {"self": path, "stream": f"{path}/stream", "cancel": path}
    assert answer.headers["location"] == path
    worker.serve("a", "b")
    with resume(relay.port, job_id) as stream:
        assert text_of(stream.rest()) == "ab"


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
def test_only_who_asks_for_a_stream_gets_one(relay: Relay, worker: FakeWorker, accept: str) -> None:
    assert post(relay, {"prompt": "hi"}, Accept=accept).status_code == 202


def test_execute_is_always_a_stream(relay: Relay, worker: FakeWorker) -> None:
    with Stream(relay.port, "/execute", method="POST", body={"prompt": "hi"}) as stream:
        worker.serve("a")
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert text_of(stream.rest()) == "a"


def test_the_worker_is_told_what_the_client_wished(relay: Relay) -> None:
    with FakeWorker(relay.socket, json_schema=True) as worker:
        wishes = {
            "model": "sim",
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            ],
            "max_tokens": 5,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "seed": 7,
            "stop": "END",
            "json_schema": {"type": "object"},
            "something_new": True,
            "user": None,
        }
        assert post(relay, wishes).status_code == 202
        job = worker.receive(frames.Generate)
    assert job.messages == [
        frames.Message(role="system", content="be brief"),
        frames.Message(role="user", content="ab"),
    ]
    assert (job.prompt, job.max_tokens, job.temperature, job.top_p, job.top_k) == (None, 5, 0.5, 0.9, 40)
    assert (job.seed, job.stop, job.json_schema) == (7, ["END"], {"type": "object"})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "boss", "content": "b"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "text": ""}]}]},
            "messages[0].content[0].type",
        ),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "max_tokens": 2_000_000}, "max_tokens"),
        ({"prompt": "a", "max_tokens": "5"}, "max_tokens"),
        ({"prompt": "a", "temperature": -1}, "temperature"),
        ({"prompt": "a", "temperature": 2.1}, "temperature"),
        ({"prompt": "a", "top_p": 0}, "top_p"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "seed": 2**63}, "seed"),
        ({"prompt": "a", "stop": ""}, "stop"),
        ({"prompt": "a", "stop": ["a"] * 5}, "stop"),
        ({"prompt": "a", "on_disconnect": "explode"}, "on_disconnect"),
        ({"prompt": "a", "narration": {"style": "loud"}}, "narration.style"),
        ({"prompt": "a", "narration": {"max_rate": 0}}, "narration.max_rate"),
        ({"prompt": "a", "json_schema": {"type": "object"}}, "json_schema"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_name(shared: Relay, body: Any, param: str) -> None:
    answer = post(shared, body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"prompt":"\xff"}',
        b'{"prompt":"\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"\x00",
    ],
)
def test_a_body_that_is_no_request_is_refused(shared: Relay, body: bytes) -> None:
    answer = post(shared, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("invalid_json", "invalid_request")


def test_another_model_is_not_found(shared: Relay) -> None:
    error = assert_error(post(shared, {"prompt": "a", "model": "gpt-9"}), 404, "model_not_found")
    assert error["param"] == "model"
    assert "'sim'" in error["message"]


def test_a_body_that_is_too_large_is_refused(shared: Relay) -> None:
    assert_error(post(shared, {"prompt": "x" * 1_100_000}), 413, "body_too_large")


def test_unknown_jobs_paths_and_methods(shared: Relay) -> None:
    relay = shared
    assert_error(relay.get("/v1/inference/nope"), 404, "job_not_found")
    assert_error(relay.get("/v1/inference/nope/stream"), 404, "job_not_found")
    assert_error(httpx.delete(f"{relay.url}/v1/inference/nope"), 404, "job_not_found")
    assert_error(relay.get("/v2/everything"), 404, "path_not_found")
    assert_error(httpx.put(f"{relay.url}/v1/inference"), 405, "method_not_allowed")


def test_head_does_not_hold_a_stream_open(relay: Relay, worker: FakeWorker) -> None:
    job_id = post(relay, {"prompt": "a"}).json()["job_id"]
    for path in (f"/v1/inference/{job_id}/stream", "/v1/worker/stream", "/v1/correlations/c/stream"):
        assert httpx.head(relay.url + path).status_code == 200
    assert relay.metric("rhapsode_relay_readers") == 0


def test_the_one_model_is_listed(shared: Relay) -> None:
    body = shared.get("/v1/models").json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["sim"]


# Idempotency


def test_the_same_key_and_body_is_the_same_job(relay: Relay, worker: FakeWorker) -> None:
    first = post(relay, {"prompt": "a"}, **{"Idempotency-Key": "k1"})
    again = post(relay, {"prompt": "a"}, **{"Idempotency-Key": "k1"})
    assert first.json()["job_id"] == again.json()["job_id"]
    assert again.headers["idempotent-replayed"] == "true"
    worker.serve("x")
    with ask(relay.port, "a", headers={"Idempotency-Key": "k2"}) as stream:
        worker.serve("once")
        text = text_of(stream.rest())
    with ask(relay.port, "a", headers={"Idempotency-Key": "k2"}) as stream:
        assert text_of(stream.rest()) == text == "once"


def test_the_same_key_with_another_body_is_refused(relay: Relay, worker: FakeWorker) -> None:
    post(relay, {"prompt": "a"}, **{"Idempotency-Key": "k1"})
    assert_error(post(relay, {"prompt": "b"}, **{"Idempotency-Key": "k1"}), 422, "idempotency_key_reused")


def test_a_key_that_is_too_long_is_refused(relay: Relay) -> None:
    error = assert_error(post(relay, {"prompt": "a"}, **{"Idempotency-Key": "k" * 256}), 400, "invalid_request")
    assert error["param"] == "Idempotency-Key"


# Snapshot and cancel


def test_a_job_can_be_looked_at_and_cancelled_twice(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.begin()
        worker.speak(job, "a", "b")
        stream.next("token"), stream.next("token")
        view = relay.get(f"/v1/inference/{job.job_id}").json()
        assert (view["status"], view["text"], view["tokens_out"], view["text_len"]) == ("running", "ab", 2, 2)
        for _ in range(2):
            answer = httpx.delete(f"{relay.url}/v1/inference/{job.job_id}")
            assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert worker.receive(frames.Cancel).job_id == job.job_id
        events = stream.rest()
    error = events[-2].data
    assert (error["error"]["code"], error["error"]["partial"], error["retryable"]) == ("cancelled", True, False)
    assert events[-1].name == "done"


def test_a_waiting_job_is_cancelled_without_the_worker_ever_hearing_of_it(relay: Relay) -> None:
    job_id = post(relay, {"prompt": "a"}).json()["job_id"]
    httpx.delete(f"{relay.url}/v1/inference/{job_id}")
    with FakeWorker(relay.socket) as worker:
        kept = post(relay, {"prompt": "b"}).json()["job_id"]
        assert worker.receive(frames.Generate).job_id == kept


def test_late_frames_of_a_cancelled_job_change_nothing_and_free_its_slot_once(relay: Relay) -> None:
    with FakeWorker(relay.socket, slots=1) as worker, ask(relay.port, "first") as stream:
        job = worker.begin()
        httpx.delete(f"{relay.url}/v1/inference/{job.job_id}")
        second = post(relay, {"prompt": "second"}).json()["job_id"]
        worker.speak(job, "late")
        events = stream.rest()
        assert text_of(events) == ""
        worker.send(frames.Finish(job_id=job.job_id, stop_reason="cancelled", tokens_out=1))
        assert worker.receive(frames.Generate).job_id == second, "the slot is free when the worker says so"


# Disconnects


def test_cancel_tells_the_worker_as_soon_as_the_client_is_gone(relay: Relay, worker: FakeWorker) -> None:
    stream = ask(relay.port, on_disconnect="cancel")
    job = worker.begin()
    stream.next("started")
    stream.close(hard=True)
    assert worker.receive(frames.Cancel).job_id == job.job_id
    assert relay.get(f"/v1/inference/{job.job_id}").json()["status"] == "cancelled"


def test_grace_waits_and_then_cancels() -> None:
    with running_relay(manifest(graceSeconds=1)) as relay, FakeWorker(relay.socket) as worker:
        stream = ask(relay.port)
        job = worker.begin()
        stream.next("started")
        stream.close()
        began = time.monotonic()
        assert worker.receive(frames.Cancel).job_id == job.job_id
        assert time.monotonic() - began > 0.9, "not before the grace is over"


def test_a_reader_that_comes_back_in_time_keeps_the_job() -> None:
    with running_relay(manifest(graceSeconds=2)) as relay, FakeWorker(relay.socket) as worker:
        stream = ask(relay.port)
        job = worker.begin()
        stream.next("started")
        stream.close()
        with resume(relay.port, job.job_id) as again:
            time.sleep(3.2)  # longer than the grace and a round of looking at jobs
            worker.speak(job, "a")
            worker.finish(job, 1)
            assert again.rest()[-2].name == "end"


def test_grace_for_a_job_that_nobody_reads_begins_when_it_runs() -> None:
    with running_relay(manifest(graceSeconds=1)) as relay:
        job_id = post(relay, {"prompt": "a"}).json()["job_id"]
        time.sleep(2.5)  # it waits longer than the grace
        with FakeWorker(relay.socket) as worker:
            assert worker.begin().job_id == job_id
            assert worker.receive(frames.Cancel).job_id == job_id


def test_continue_finishes_for_nobody(relay: Relay, worker: FakeWorker) -> None:
    stream = ask(relay.port, on_disconnect="continue")
    job = worker.begin()
    stream.close()
    worker.speak(job, "a")
    worker.finish(job, 1)
    wait_until(lambda: relay.get(f"/v1/inference/{job.job_id}").json()["status"] == "completed", "the job completes")


def test_losing_a_reader_of_narration_never_cancels() -> None:
    with (
        running_relay(manifest(onDisconnect="cancel")) as relay,
        FakeWorker(relay.socket) as worker,
        ask(relay.port) as agent,
    ):
        job = worker.begin()
        screen = resume(relay.port, job.job_id, query="?channels=narration")
        screen.next("started")
        screen.close(hard=True)
        wait_until(lambda: relay.metric("rhapsode_relay_readers") == 1, "the screen is gone")
        worker.speak(job, "a")
        worker.finish(job, 1)
        assert agent.rest()[-2].name == "end"


# Admission


def test_a_full_line_is_503_with_retry_after() -> None:
    with running_relay(manifest(queueLimit=1)) as relay:
        assert post(relay, {"prompt": "a"}).status_code == 202
        answer = post(relay, {"prompt": "b"})
        assert_error(answer, 503, "queue_full", retryable=True)
        assert int(answer.headers["retry-after"]) >= 1


def test_requests_beyond_the_slots_wait_their_turn(relay: Relay) -> None:
    with FakeWorker(relay.socket, slots=2) as worker:
        ids = [post(relay, {"prompt": str(at)}).json()["job_id"] for at in range(4)]
        running = [worker.begin(), worker.begin()]
        assert [job.job_id for job in running] == ids[:2]
        assert relay.metric("rhapsode_jobs_queued") == 2
        worker.finish(running[1], 0)
        assert worker.begin().job_id == ids[2]


def test_a_worker_that_failed_is_503_and_who_waits_is_told(relay: Relay) -> None:
    with ask(relay.port) as stream, FakeWorker(relay.socket, ready=False) as worker:
        worker.send(
            frames.State(phase="failed", reason="ModelNotFound", message="Could not load sim: no file. Fix it.")
        )
        assert stream.rest()[-2].data["error"]["code"] == "worker_failed"
        error = assert_error(post(relay, {"prompt": "a"}), 503, "worker_failed", retryable=True)
        assert error["message"] == "Could not load sim: no file. Fix it."


def test_a_draining_worker_is_503_and_who_runs_may_finish(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.begin()
        worker.send(frames.State(phase="draining"))
        wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "draining", "the relay knows")
        assert_error(post(relay, {"prompt": "a"}), 503, "draining", retryable=True)
        worker.speak(job, "a")
        worker.finish(job, 1)
        assert text_of(stream.rest()) == "a"


# Ports


def test_jobs_are_on_the_client_port_and_health_on_the_admin_port(relay: Relay) -> None:
    for path in ("/v1/inference/x", "/v1/models", "/execute", "/v1/correlations/c/stream"):
        assert httpx.get(relay.admin_url + path).status_code in (404, 405)
    for path in ("/metrics", "/healthz", "/readyz"):
        assert relay.get(path).status_code == 404
    for url in (relay.url, relay.admin_url):
        assert httpx.get(f"{url}/v1/worker").json()["worker_id"] == "sim"


def test_readiness_follows_the_worker(relay: Relay) -> None:
    def status() -> tuple[int, str]:
        answer = httpx.get(f"{relay.admin_url}/readyz")
        return answer.status_code, answer.json()["status"]

    assert status() == (503, "starting")
    with FakeWorker(relay.socket, ready=False) as worker:
        worker.send(frames.State(phase="loading"))
        wait_until(lambda: status() == (503, "loading"), "loading")
        worker.send(frames.State(phase="ready"))
        wait_until(lambda: status() == (200, "ready"), "ready")
    wait_until(lambda: status() == (503, "lost"), "lost")
    assert httpx.get(f"{relay.admin_url}/healthz").status_code == 200


def test_metrics_count_what_happened(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        worker.serve("a", "b", "c")
        stream.rest()
    post(relay, {})
    assert relay.metric("rhapsode_tokens_total") == 3
    assert relay.metric('rhapsode_jobs_ended_total{status="completed"}') == 1
    assert relay.metric('rhapsode_requests_refused_total{code="invalid_request"}') == 1
    assert relay.metric("rhapsode_worker_ready") == 1


# Hostile HTTP


def raw_answer(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Return all that the relay answers to these bytes until it closes."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        answer = b""
        try:
            for piece in pieces:
                sock.sendall(piece)
                time.sleep(pause)
            while data := sock.recv(65536):
                answer += data
        except (ConnectionResetError, BrokenPipeError):
            pass
        return answer


@pytest.mark.parametrize(
    ("pieces", "status", "code"),
    [
        ([b"NONSENSE\r\n\r\n"], 400, "invalid_http"),
        ([b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n"], 400, "invalid_http"),
        ([b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n"], 431, "headers_too_large"),
        ([b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000], 431, "headers_too_large"),
        ([b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n"], 431, "headers_too_large"),
        (
            [b"POST /v1/inference HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
            400,
            "invalid_http",
        ),
    ],
)
def test_what_is_no_http_is_refused_in_our_shape(shared: Relay, pieces: list[bytes], status: int, code: str) -> None:
    answer = raw_answer(shared.port, *pieces)
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


def test_logs_tell_lengths_never_texts(relay: Relay, worker: FakeWorker) -> None:
    secret, answer = "my secret prompt", "the secret answer"
    with ask(relay.port, secret) as stream:
        worker.serve(answer)
        stream.rest()
    logged = "".join(relay.lines)
    assert "Accepted: 16 characters" in logged
    assert secret not in logged
    assert answer not in logged
    for record in relay.records:
        assert {"timestamp", "level", "component", "event", "worker_id"} <= record.keys()

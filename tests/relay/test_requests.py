"""What a client may ask, and how it is refused: real statuses, and one shape of errors."""

from typing import Any

import httpx
import pytest

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay, wait_until
from support.requests import assert_error, post
from support.streams import Stream, ask, resume, text_of


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
        ({"prompt": "a", "regex": "a"}, "regex"),
        ({"prompt": "a", "regex": ""}, "regex"),
        ({"prompt": "a", "regex": "a" * 4097}, "regex"),
        ({"prompt": "a", "regex": ["a"]}, "regex"),
        ({"prompt": "a", "grammar": "root ::= 'a'"}, "grammar"),
        ({"prompt": "a", "grammar": "a" * 65537}, "grammar"),
        ({"prompt": "a", "json_schema": {}, "grammar": "root ::= 'a'"}, "grammar"),
        ({"prompt": "a", "regex": "a", "grammar": "root ::= 'a'"}, "grammar"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_by_name(shared: Relay, body: Any, param: str) -> None:
    answer = post(shared, body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"prompt": "a", "narration": {"level": "loud"}}, "'loud'; send 'debug' or 'error' or 'info' or 'warn'"),
        (
            {"messages": [{"role": "boss", "content": "b"}]},
            "'boss'; send 'assistant' or 'system' or 'tool' or 'user'",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image", "text": ""}]}]}, "'image'; send 'text'"),
        ({"prompt": "a", "max_tokens": 0}, "Expected `int` >= 1"),
    ],
)
def test_a_refusal_says_what_may_be_sent_instead(shared: Relay, body: Any, words: str) -> None:
    assert post(shared, body).json()["error"]["message"].endswith(words)


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


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("POST", "/chat/completions", "there is no /chat/completions; did you mean /v1/chat/completions?"),
        ("POST", "/v1/v1/responses", "there is no /v1/v1/responses; did you mean /v1/responses?"),
        ("GET", "/v1/models/", "there is no /v1/models/; did you mean /v1/models?"),
        ("POST", "/v1/embeddings", "there is no /v1/embeddings; /openapi.json says what there is"),
        ("GET", "/v1/chat/completions", "GET is not allowed here; POST is"),
        ("POST", "/v1/chat/completions", "the body is empty; send JSON"),
    ],
)
def test_an_address_that_is_nearly_right_is_put_right(shared: Relay, method: str, path: str, says: str) -> None:
    assert httpx.request(method, f"{shared.url}{path}").json()["error"]["message"] == says


def test_head_does_not_hold_a_stream_open(relay: Relay, worker: FakeWorker) -> None:
    job_id = post(relay, {"prompt": "a"}).json()["job_id"]
    for path in (f"/v1/inference/{job_id}/stream", "/v1/worker/stream", "/v1/correlations/c/stream"):
        assert httpx.head(relay.url + path).status_code == 200
    wait_until(lambda: relay.metric("rhapsode_relay_readers") == 0, "nobody reads")


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


def test_logs_tell_lengths_never_texts(relay: Relay, worker: FakeWorker) -> None:
    secret, answer = "my secret prompt", "the secret answer"
    with ask(relay.port, secret) as stream:
        worker.serve(answer)
        stream.rest()
    wait_until(lambda: any(one.get("stream_phase") == "complete" for one in list(relay.records)), "its end is logged")
    logged = "".join(relay.lines)
    assert "Accepted: 16 characters" in logged
    assert secret not in logged
    assert answer not in logged
    for record in relay.records:
        assert {"timestamp", "level", "component", "event", "worker_id"} <= record.keys()

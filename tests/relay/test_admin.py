"""The admin port: what the operator narrates and drains there, and what a kubelet's probes and hooks hear."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from rhapsode_contract import frames
from rhapsode_contract.names import OUTGOING
from rhapsode_relay.admin import HOOK_S
from rhapsode_relay.worker_state import GONE_GRACE_S, WorkerState
from support.conversations import conversing
from support.fake_worker import FakeWorker
from support.narrations import narrations, said
from support.processes import DEADLINE_S, Relay, running_relay, wait_until
from support.requests import assert_error, post
from support.streams import Stream, ask, names_of, text_of


def narrate(relay: Relay, note: Any) -> httpx.Response:
    content = note if isinstance(note, bytes) else json.dumps(note)
    return httpx.post(f"{relay.admin_url}/v1/narration", content=content)


def drain(relay: Relay) -> dict[str, Any]:
    answer = httpx.post(f"{relay.admin_url}/v1/drain")
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def probe(relay: Relay, path: str = "/healthz/worker") -> tuple[int, str]:
    answer = httpx.get(f"{relay.admin_url}{path}")
    return answer.status_code, answer.json()["status"]


# Narrating


def test_a_client_of_a_cold_start_hears_what_the_operator_sees(relay: Relay) -> None:
    with ask(relay.port) as early:
        early.next("queued")
        pull = {"actor": "operator", "action": "image_pull", "human": "Pulling image worker:1", "progress": 0.2}
        answer = narrate(relay, pull)
        assert (answer.status_code, answer.content) == (204, b"")
        told = next(event.data for event in early.events() if event.data.get("action") == "image_pull")
        assert (told["human"], told["actor"], told["progress"]) == ("Pulling image worker:1", "operator", 0.2)
    with ask(relay.port) as late:
        assert next(event for event in late.events() if event.data.get("action") == "image_pull")
    assert said(relay, "Pulling image worker:1")["actor"] == "operator", "who watches the worker hears it too"
    assert relay.wait_record("image_pull")["message"] == "Pulling image worker:1"


def test_a_running_answer_is_not_disturbed_by_the_operator(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.begin()
        stream.next("started")
        narrate(relay, {"human": "Scheduled elsewhere"})
        said(relay, "Scheduled elsewhere")
        worker.finish(job, 0)
        stream.rest()
    assert b"Scheduled" not in stream.raw


def test_a_payload_is_data_of_the_workers_stream(relay: Relay) -> None:
    with Stream(relay.port, "/v1/worker/stream") as stream:
        assert narrate(relay, {"type": "data", "action": "pods", "payload": [{"pod": "w-0"}]}).status_code == 204
        assert stream.next("data").data["payload"] == [{"pod": "w-0"}]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"\xff", "invalid_json", None),
        (b'{"payload":' + b"[" * 50_000, "invalid_json", None),
        ([], "invalid_request", None),
        ({}, "invalid_request", "human"),
        ({"human": 5}, "invalid_request", "human"),
        ({"human": "x", "progress": 2}, "invalid_request", "progress"),
        ({"human": "x", "action": "a" * 65}, "invalid_request", "action"),
        ({"human": "x", "level": "loud"}, "invalid_request", "level"),
        ({"type": "state", "phase": "failed"}, "invalid_request", "type"),
        ({"type": "token", "human": "x"}, "invalid_request", "type"),
    ],
)
def test_what_is_no_narration_is_refused_with_what_is_wrong(shared: Relay, body: Any, code: str, param: str) -> None:
    assert assert_error(narrate(shared, body), 400, code).get("param") == param


def test_a_narration_is_bounded_and_so_is_their_number(relay: Relay) -> None:
    assert_error(narrate(relay, {"human": "x" * 65_536}), 413, "body_too_large")
    with httpx.Client(base_url=relay.admin_url) as client:
        for _ in range(1000):  # far more than come in, in a second
            if (answer := client.post("/v1/narration", json={"human": "spam"})).status_code != 204:
                break
    assert_error(answer, 429, "too_many_narrations", retryable=True)
    assert int(answer.headers["retry-after"]) >= 1
    assert relay.metric("rhapsode_socket_notes_dropped_total") == 1


def test_a_narration_cannot_harm_a_screen(relay: Relay) -> None:
    narrate(relay, {"human": "a\x1b[2J\nb", "action": "x\ny"})
    assert said(relay, "a [2J b")["action"] == "x y"


@pytest.mark.parametrize("path", ["/v1/narration", "/v1/drain", "/prestop", "/healthz/worker", "/metrics"])
def test_clients_have_none_of_it(shared: Relay, path: str) -> None:
    for method in ("GET", "POST"):
        answer = httpx.request(method, f"{shared.url}{path}")
        assert_error(answer, 404, "path_not_found")


# Draining


def test_a_drain_sends_who_waits_away_and_lets_who_runs_finish() -> None:
    with running_relay() as relay, FakeWorker(relay.socket, slots=1) as worker:
        with ask(relay.port, "runs") as runs, ask(relay.port, "waits") as waits:
            job = worker.begin()
            runs.next("started")
            waits.next("queued")
            first = drain(relay)
            assert (first["draining"], first["running"], first["queued"]) == (True, 1, 0)
            error = waits.rest()[-2].data
            assert (error["error"]["code"], error["retryable"]) == ("draining", True)
            refused = post(relay, {"prompt": "late"})
            assert_error(refused, 503, "draining", retryable=True)
            assert int(refused.headers["retry-after"]) >= 1
            assert probe(relay, "/readyz") == (503, "draining")
            assert worker.receive(frames.Drain).deadline_s > 0, "the worker is told"
            worker.speak(job, "a")
            worker.finish(job, 1)
            assert text_of(runs.rest()) == "a"
        last = wait_until(lambda: (told := drain(relay))["running"] == 0 and told, "nothing runs")
        assert last["for_s"] >= first["for_s"] >= 0
        assert relay.process.poll() is None, "the process stays up"
        words = [told["human"] for told in narrations(relay) if told["action"] == "relay_drain"]
        assert words == ["Relay is draining: 1 request to finish"], "told once, with no limit that nobody set"


def test_who_watches_hears_the_draining_once(relay: Relay, worker: FakeWorker) -> None:
    wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "the worker is ready")
    with Stream(relay.port, "/v1/worker/stream?after=9999") as stream:
        stream.next("worker")
        drain(relay)
        worker.receive(frames.Drain)
        worker.send(frames.State(phase="draining"), frames.State(phase="failed", reason="Test"))
        phases = [stream.next("state").data["phase"] for _ in range(3)]
    assert phases == ["ready", "draining", "failed"]


def test_who_is_to_go_says_so_whatever_its_worker_says_of_the_drain(relay: Relay, worker: FakeWorker) -> None:
    """The worker may have said that it is ready a moment before it heard; a new operator goes by the reason."""
    wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "the worker is ready")
    with Stream(relay.port, "/v1/worker/stream?after=9999") as stream:
        stream.next("worker")
        httpx.get(f"{relay.admin_url}/prestop")
        drain(relay)
        worker.send(frames.State(phase="ready"), frames.State(phase="draining"))
        told = [stream.next("state").data for _ in range(5)]
    assert [(one["phase"], one.get("reason", "")) for one in told] == [
        ("ready", ""), ("draining", ""), ("draining", OUTGOING), ("ready", ""), ("draining", OUTGOING),
    ]  # fmt: skip


def test_a_relay_without_a_worker_drains_too(relay: Relay) -> None:
    with ask(relay.port) as stream:
        stream.next("queued")
        assert drain(relay)["running"] == 0
        assert stream.rest()[-2].data["error"]["code"] == "draining"
    assert relay.get("/v1/worker").json()["phase"] == "draining"


@pytest.mark.parametrize("boot", ["boot", "another"])
def test_a_worker_that_comes_while_the_operator_drains_is_told(relay: Relay, worker: FakeWorker, boot: str) -> None:
    drain(relay)
    worker.receive(frames.Drain)
    worker.close()
    relay.wait_record("worker_joined")
    wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "lost", "the relay lost its worker")
    with FakeWorker(relay.socket, boot_id=boot) as back:
        back.receive(frames.Drain)
        assert_error(post(relay, {"prompt": "late"}), 503, "draining", retryable=True)


def test_sigterm_after_a_drain_ends_who_still_runs_at_the_deadline() -> None:
    with conversing(drainSeconds=1) as (relay, worker, stream):
        worker.begin()
        stream.next("started")
        drain(relay)
        relay.send(signal.SIGTERM)
        assert stream.rest()[-2].data["error"]["code"] == "server_shutdown"
        assert relay.wait() == 0


def test_sigterm_alone_does_not_drain_the_worker(relay: Relay, worker: FakeWorker) -> None:
    """A relay that restarts must not take a sound worker with it."""
    with ask(relay.port) as stream:
        job = worker.begin()
        stream.next("started")
        relay.send(signal.SIGTERM)
        relay.wait_record("relay_drain")
        worker.finish(job, 0)
        stream.rest()
    assert relay.wait() == 0
    with pytest.raises(ConnectionResetError):
        worker.receive(frames.Drain)


# The preStop hook


def test_the_hook_is_answered_when_nothing_runs_any_more(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream, ThreadPoolExecutor(1) as pool:
        job = worker.begin()
        stream.next("started")
        hook = pool.submit(httpx.get, f"{relay.admin_url}/prestop")
        worker.receive(frames.Drain)
        assert not hook.done(), "a request still runs"
        worker.speak(job, "a")
        worker.finish(job, 1)
        assert names_of(stream.rest())[-2:] == ["end", "done"]
        body = hook.result(DEADLINE_S).json()
    assert (body["draining"], body["running"], body["queued"]) == (True, 0, 0)


def test_the_hook_waits_no_longer_than_a_drain_may_take() -> None:
    with conversing(drainSeconds=1) as (relay, worker, stream):
        worker.begin()
        stream.next("started")
        body = httpx.get(f"{relay.admin_url}/prestop", timeout=HOOK_S - 10).json()  # less than a drain without limit
        assert (body["running"], body["draining"]) == (1, True)


def test_a_restarted_container_takes_requests_again(relay: Relay, worker: FakeWorker) -> None:
    """A kubelet runs the hook also before it restarts a container whose probe failed: the pod lives on."""
    assert httpx.get(f"{relay.admin_url}/prestop").json()["draining"]
    worker.close()
    wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "lost", "the relay lost its worker")
    with FakeWorker(relay.socket, boot_id="another") as restarted:
        wait_until(lambda: probe(relay, "/readyz") == (200, "ready"), "the pod is ready again")
        with ask(relay.port) as stream:
            restarted.serve("a")
            assert text_of(stream.rest()) == "a"


def test_a_worker_that_only_lost_its_connection_goes_on_draining(relay: Relay, worker: FakeWorker) -> None:
    httpx.get(f"{relay.admin_url}/prestop")
    worker.close()
    wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "lost", "the relay lost its worker")
    with FakeWorker(relay.socket) as back:
        back.receive(frames.Drain)
        assert probe(relay, "/readyz")[0] == 503


# The worker's probe


def test_a_worker_has_come_up_when_it_is_ready_and_lives_while_its_engine_restarts(relay: Relay) -> None:
    assert probe(relay) == (503, "starting")
    with FakeWorker(relay.socket, ready=False) as worker:
        worker.send(frames.State(phase="loading"))
        wait_until(lambda: probe(relay) == (503, "loading"), "the probe hears of the loading")
        worker.send(frames.State(phase="ready"))
        wait_until(lambda: probe(relay) == (200, "ready"), "the probe hears of the ready worker")
        worker.send(frames.State(phase="loading"))
        wait_until(lambda: probe(relay) == (200, "loading"), "the engine is being restarted")
    wait_until(lambda: probe(relay) == (200, "lost"), "a worker that left may be about to come back")


def test_a_worker_that_stays_away_is_dead() -> None:
    worker = WorkerState("w", "e", "m", "human")
    assert not worker.is_alive(0)
    worker.greet(frames.Hello(proto=1, boot_id="b", engine="Fake", model="m"))
    worker.enter("ready")
    assert worker.is_alive(1e9)
    worker.part(100)
    assert worker.is_alive(100 + GONE_GRACE_S)
    assert not worker.is_alive(101 + GONE_GRACE_S)
    worker.greet(frames.Hello(proto=1, boot_id="b", engine="Fake", model="m"))
    assert worker.is_alive(1e9)


def test_after_a_restart_of_the_relay_the_worker_is_alive_as_soon_as_it_tells(relay: Relay) -> None:
    """A worker with history: its recap brings the phase, and no new load is waited for."""
    assert probe(relay)[0] == 503
    with FakeWorker(relay.socket):
        wait_until(lambda: probe(relay)[0] == 200, "the worker told that it is ready")

"""AG-UI: what its agent sends and what it gets, from a slow start to an engine that dies in mid-sentence."""

from typing import Any

import httpx
import pytest

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay, manifest, running_relay, wait_until
from support.replicas import replicas, worker_of
from support.requests import assert_error, post
from support.streams import Stream, ask, resume
from support.turns import INTENTS, NARRATIVE, sitting
from support.uis import AGUI, kinds_of, of_kind, rest, run_agent, said_in, text_of, until, verify_run

USER = {"id": "m-1", "role": "user", "content": "hello"}
INPUT = {"threadId": "t", "runId": "r", "messages": [USER]}


def test_a_run_is_told_from_its_start_to_its_end(relay: Relay, worker: FakeWorker) -> None:
    with run_agent(relay.port) as stream:
        job = worker.serve("Hel", "lo — ", "ünder\n")
        said = rest(stream)
    verify_run(said)
    assert [kind for kind in kinds_of(said) if kind not in ("CUSTOM:narration", "CUSTOM:metrics")] == [
        "RUN_STARTED", "CUSTOM:job", "STEP_STARTED:queue", "CUSTOM:queued", "STEP_FINISHED:queue",
        "STEP_STARTED:prefill", "CUSTOM:started", "STEP_FINISHED:prefill", "STEP_STARTED:decode",
        "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "STEP_FINISHED:decode", "RUN_FINISHED",
    ]  # fmt: skip
    assert text_of(said) == "Hello — ünder\n"
    assert said[0] == {"type": "RUN_STARTED", "threadId": "thread-1", "runId": "run-1"}
    assert said[1]["value"] == {"job_id": job.job_id, "correlation_id": "thread-1"}
    assert of_kind(said, "narration")[0]["value"]["action"] == "accepted"
    end = said[-1]
    assert (end["threadId"], end["runId"], end["result"]["stop_reason"]) == ("thread-1", "run-1", "stop")
    assert end["usage"] == [{"model": "sim", "inputTokens": 3, "outputTokens": 3, "totalTokens": 6}]
    assert job.correlation_id == stream.headers["x-correlation-id"] == "thread-1"
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["x-job-id"] == job.job_id


def test_the_model_is_told_the_conversation_and_what_the_application_knows(relay: Relay, worker: FakeWorker) -> None:
    messages: list[dict[str, Any]] = [
        {"id": "1", "role": "developer", "content": "Be kind."},
        {"id": "2", "role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"id": "3", "role": "reasoning", "content": "hm"},
        {"id": "4", "role": "activity", "activityType": "plan", "content": {"steps": []}},
        {"id": "5", "role": "assistant", "toolCalls": []},
        {"id": "6", "role": "assistant", "content": "c"},
        {"id": "7", "role": "user", "content": "d"},
    ]
    context = [{"description": "place", "value": "a harbour"}, {"description": "", "value": "night"}]
    props = {"max_tokens": 9, "temperature": 0.5, "seed": 7, "stop": ["."], "theirs": {"any": 1}}
    with run_agent(relay.port, *messages, context=context, props=props, state={"x": 1}) as stream:
        asked = worker.serve("ok")
        rest(stream)
    assert [(one.role, one.content) for one in asked.messages or []] == [
        ("system", "Be kind.\n\nplace: a harbour\nnight"), ("user", "ab"), ("assistant", "c"), ("user", "d"),
    ]  # fmt: skip
    assert (asked.max_tokens, asked.temperature, asked.seed, asked.stop) == (9, 0.5, 7, ["."])


def test_an_answer_may_be_as_long_as_the_context(relay: Relay, worker: FakeWorker) -> None:
    with run_agent(relay.port, context=[{"description": "d", "value": "v"}]) as stream:
        asked = worker.serve("ok")
        rest(stream)
    assert asked.max_tokens == 100_000
    assert [one.role for one in asked.messages or []] == ["system", "user"]


@pytest.mark.parametrize("thread", ["", ".", "../..", "a b\r\nX-Evil: 1", "ü" * 1000, "x" * 65, "\x00", "{}"])
def test_a_thread_may_be_called_anything(shared: Relay, thread: str) -> None:
    body = INPUT | {"threadId": thread, "runId": thread}
    with Stream(shared.port, AGUI, method="POST", body=body) as stream:
        begun = until(stream, "RUN_STARTED")[0]
        made = stream.headers["x-correlation-id"]
    assert (begun["threadId"], begun["runId"]) == (thread, thread)
    assert made.startswith("chat-")
    assert "x-evil" not in stream.headers


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ([], "invalid_request", None),
        ({}, "invalid_request", None),
        (INPUT | {"messages": []}, "invalid_request", "messages"),
        (INPUT | {"messages": [USER] * 1025}, "invalid_request", "messages"),
        (INPUT | {"threadId": "x" * 1025}, "invalid_request", "threadId"),
        (INPUT | {"threadId": 7}, "invalid_request", "threadId"),
        (INPUT | {"messages": [{"role": "king", "content": "a"}]}, "invalid_request", "messages[0].role"),
        (INPUT | {"messages": [{"role": "user", "content": {"a": 1}}]}, "invalid_request", "messages[0].content"),
        (INPUT | {"messages": [{"role": "assistant"}]}, "invalid_request", "messages"),
        (
            INPUT | {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "unsupported", "messages[0].content[0].type",
        ),
        (INPUT | {"tools": [{"name": "x"}]}, "unsupported", "tools"),
        (INPUT | {"forwardedProps": {"tools": [1]}}, "unsupported", "tools"),
        (INPUT | {"resume": [{"interruptId": "i"}]}, "unsupported", "resume"),
        (INPUT | {"forwardedProps": {"temperature": 9}}, "invalid_request", "forwardedProps.temperature"),
        (INPUT | {"forwardedProps": {"narration": {"level": "loud"}}}, "invalid_request", "forwardedProps.narration.level"),
        (INPUT | {"forwardedProps": "x"}, "invalid_request", "forwardedProps"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(shared: Relay, body: Any, code: str, param: str | None) -> None:
    error = assert_error(httpx.post(f"{shared.url}{AGUI}", json=body), 400, code)
    assert error.get("param") == param


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"threadId":"\xff"}', b'{"x":' + b"[" * 100_000])
def test_what_is_no_json_is_refused(shared: Relay, content: bytes) -> None:
    assert_error(httpx.post(f"{shared.url}{AGUI}", content=content), 400, "invalid_json")


def test_a_page_sees_the_worker_load(relay: Relay) -> None:
    with run_agent(relay.port) as stream:
        assert [one["stepName"] for one in of_kind(until(stream, "STEP_STARTED"), "STEP_STARTED")] == ["queue"]
        with FakeWorker(relay.socket, ready=False) as worker:
            worker.send(frames.State(phase="loading"), frames.Load(stage="weights", percent=40.0))
            worker.send(
                frames.Narration(actor="engine", action="load_weights", human="Loading the weights", level="info")
            )
            until(stream, "CUSTOM", 2, name="narration")
            worker.send(frames.State(phase="ready", caps=frames.Caps(slots=1, context_tokens=100)))
            worker.serve("a")
            said = rest(stream)
    verify_run(said)
    assert "Loading the weights" in [one["value"]["human"] for one in of_kind(said, "narration")]
    assert text_of(said) == "a"


def test_an_engine_that_fails_in_mid_sentence_ends_the_run(relay: Relay, worker: FakeWorker) -> None:
    with run_agent(relay.port) as stream:
        job = worker.begin()
        worker.speak(job, "a", "b")
        worker.send(frames.Error(job_id=job.job_id, code="engine_crashed", message="it crashed", retryable=True))
        said = rest(stream)
    verify_run(said)
    assert said[-1] == {"type": "RUN_ERROR", "message": "it crashed", "code": "engine_crashed"}
    assert text_of(said) == "ab"
    assert of_kind(said, "error")[0]["value"]["retryable"] is True


def test_a_worker_that_is_killed_ends_the_run(relay: Relay) -> None:
    with FakeWorker(relay.socket) as worker:
        stream = run_agent(relay.port)
        worker.speak(worker.begin(), "a")
        until(stream, "TEXT_MESSAGE_CONTENT")
    said = rest(stream)
    stream.close()
    verify_run(said)
    assert said[-1]["type"] == "RUN_ERROR"


def test_a_run_may_end_when_its_page_goes(relay: Relay, worker: FakeWorker) -> None:
    stream = run_agent(relay.port, props={"on_disconnect": "cancel"})
    job = worker.begin()
    worker.speak(job, "a")
    until(stream, "TEXT_MESSAGE_CONTENT")
    stream.close(hard=True)
    assert worker.receive(frames.Cancel).job_id == job.job_id


@pytest.mark.parametrize(("wish", "comes"), [(False, False), (True, True), ({"level": "error"}, False)])
def test_narration_comes_unless_nobody_wants_it(relay: Relay, worker: FakeWorker, wish: Any, comes: bool) -> None:
    with run_agent(relay.port, props={"narration": wish}) as stream:
        worker.serve("a")
        assert bool(of_kind(rest(stream), "narration")) is comes


def test_silence_does_not_break_a_stream() -> None:
    with running_relay(manifest(heartbeatSeconds=1)) as relay, FakeWorker(relay.socket) as worker:
        with run_agent(relay.port) as stream:
            job = worker.begin()
            worker.speak(job, "a")
            wait_until(lambda: stream.read_some() and b": keepalive\n\n" in stream.raw, "silence is filled")
            worker.speak(job, "b", start=1)
            worker.finish(job, 2)
            said = rest(stream)
        verify_run(said)
        assert text_of(said) == "ab"


# `format=` on what others began


@pytest.mark.parametrize("cursor", ["", "?after=3", "?last_event_id=x"])
def test_any_job_can_be_read_as_a_run_from_its_beginning(relay: Relay, worker: FakeWorker, cursor: str) -> None:
    with ask(relay.port, headers={"X-Correlation-Id": "c-1"}) as stream:
        job = worker.begin()
        worker.speak(job, "a", "b")
        stream.next("token")
        query = f"{cursor or '?'}&format=agui"
        with resume(relay.port, job.job_id, f"{job.job_id}-x-3", query=query) as late:
            until(late, "TEXT_MESSAGE_CONTENT")
            worker.speak(job, "c", start=2)
            worker.finish(job, 3)
            said = rest(late)
    verify_run(said)
    assert (said[0]["threadId"], said[0]["runId"], text_of(said)) == ("c-1", job.job_id, "abc")
    with resume(relay.port, job.job_id, query="?format=agui") as again:
        assert rest(again) == said, "also when it is over"
    with resume(relay.port, job.job_id, query="?format=agui&channels=token") as bare:
        assert not of_kind(rest(bare), "narration")


@pytest.mark.parametrize("path", ["/v1/inference", "/execute"])
def test_a_request_of_ours_can_be_answered_as_a_run(relay: Relay, worker: FakeWorker, path: str) -> None:
    headers = {"Accept": "text/event-stream"}
    with Stream(relay.port, f"{path}?format=agui", method="POST", body={"prompt": "a"}, headers=headers) as stream:
        worker.serve("x")
        said = rest(stream)
    verify_run(said)
    assert text_of(said) == "x"


def test_an_unknown_format_is_refused_before_anything_begins(relay: Relay, worker: FakeWorker) -> None:
    for path in ("/v1/inference", "/execute"):
        answer = httpx.post(f"{relay.url}{path}?format=ag-ui", json={"prompt": "a"})
        assert assert_error(answer, 400, "invalid_request")["param"] == "format"
    job_id = post(relay, {"prompt": "a"}).json()["job_id"]
    answer = relay.get(f"/v1/inference/{job_id}/stream?format=%00")
    assert assert_error(answer, 400, "invalid_request")["param"] == "format"
    assert worker.begin().job_id == job_id, "the first that the worker hears of"


def test_a_job_of_another_replica_is_told_the_same() -> None:
    with replicas() as (one, two):
        with run_agent(one.port) as stream:
            job = worker_of(one).serve("a", "b")
            rest(stream)
        path = f"/v1/inference/{job.job_id}/stream?format=agui"
        with Stream(one.port, path) as here, Stream(two.port, path) as there:
            assert rest(here) == rest(there)
        assert text_of(said_in(there.raw)) == "ab"
        assert there.raw == here.raw


def test_a_turn_can_be_read_as_a_run() -> None:
    headers = {"Accept": "text/event-stream"}
    with sitting() as table:
        body = {"contract": "tale", "inputs": {"action": "open", "campaign": "c"}, "policy": {"memory": True}}
        path = "/v1/turns?format=agui"
        with Stream(table.relay.port, path, method="POST", body=body, headers=headers) as stream:
            table.play()
            said = rest(stream)
        refused = httpx.post(f"{table.relay.url}/v1/turns?format=x", json=body)
    verify_run(said)
    assert text_of(said) == "".join(NARRATIVE)
    assert of_kind(said, "outcome")[0]["value"]["intents"] == INTENTS
    assert [one["value"]["status"] for one in of_kind(said, "write")] == ["written", "written"]
    assert said[-1]["result"]["outcome"]["intents"] == INTENTS
    assert assert_error(refused, 400, "invalid_request")["param"] == "format"

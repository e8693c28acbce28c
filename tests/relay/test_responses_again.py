"""A response is read again, from wherever the client was; it goes on without its client, is looked at and cancelled."""

import signal
import socket
from pathlib import Path

import httpx
import pytest

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import DEADLINE_S, Relay, manifest, running_relay, wait_until
from support.requests import assert_error
from support.responses import (
    assert_numbered,
    create,
    create_stream,
    delta_text,
    id_of,
    kinds_of,
    raw_of,
    read_again,
)
from support.streams import Event, ask

HOSTILE = [
    "nope", "resp_", "resp_nope", "resp_sim-0123456789abcdef", "resp_resp_sim-0123456789abcdef", "RESP_x",
    "resp_%00", "resp_..%2f..%2fworker", "resp_sim-0123456789abcdef%0a", "resp_" + "x" * 5000, "resp_%ff%fe",
    "sim-0123456789abcdef", "resp_%3Fstream%3Dtrue",
]  # fmt: skip


def serve_in_pieces(worker: FakeWorker) -> frames.Generate:
    """Answer with tokens that come alone, several to a frame, and as one text of several."""
    job = worker.begin()
    worker.speak(job, "Ü")
    worker.send(frames.Token(job_id=job.job_id, i=1, ts=frames.TOKEN_SEPARATOR.join("bcd")))
    worker.send(frames.Token(job_id=job.job_id, i=4, t="ef", count=2))
    worker.send(frames.Narration(human="half way", action="half", job_id=job.job_id))
    worker.speak(job, "g", "h", start=6)
    worker.finish(job, 8)
    return job


def cancel(relay: Relay, response_id: str) -> httpx.Response:
    return httpx.post(f"{relay.url}/v1/responses/{response_id}/cancel")


def status(relay: Relay, response_id: str) -> str:
    return str(relay.get(f"/v1/responses/{response_id}").json()["status"])


def test_the_stream_is_the_same_from_every_number_on(relay: Relay, worker: FakeWorker) -> None:
    with create_stream(relay.port) as stream:
        job = serve_in_pieces(worker)
        events = stream.rest()
    assert_numbered(events)
    assert delta_text(events) == "Übcdefgh"
    with read_again(relay.port, f"resp_{job.job_id}") as again:
        assert again.rest() and again.raw == stream.raw  # noqa: PT018 (read, then compare)
    for number in range(len(events) + 1):
        with read_again(relay.port, f"resp_{job.job_id}", number) as again:
            assert raw_of(again.rest()) == raw_of(events[number + 1 :])
            assert again.ended


def test_a_long_text_is_read_again_whole_and_from_its_end(relay: Relay, worker: FakeWorker) -> None:
    """It is translated a piece at a time, and whoever wants its end only gets no more than that."""
    response_id = create(relay, background=True, max_output_tokens=9000).json()["id"]
    job = worker.begin()
    for start in range(0, 9000, 900):
        texts = frames.TOKEN_SEPARATOR.join(f"{at} " for at in range(start, start + 900))
        worker.send(frames.Token(job_id=job.job_id, i=start, ts=texts))
    worker.finish(job, 9000)
    wait_until(lambda: status(relay, response_id) == "completed", "it completes")
    with read_again(relay.port, response_id) as whole:
        events = whole.rest()
    assert_numbered(events)
    assert delta_text(events) == "".join(f"{at} " for at in range(9000))
    with read_again(relay.port, response_id, len(events) - 4) as end:
        assert raw_of(end.rest()) == raw_of(events[-3:])


def test_two_readers_of_a_job_that_runs_get_the_same(relay: Relay, worker: FakeWorker) -> None:
    with create_stream(relay.port) as first:
        job = worker.begin()
        worker.speak(job, "a", "b")
        seen = [first.next("response.output_text.delta"), first.next()]
        with read_again(relay.port, f"resp_{job.job_id}", seen[0].data["sequence_number"]) as second:
            worker.speak(job, "c", start=2)
            worker.finish(job, 3)
            rest = second.rest()
            assert raw_of(rest) == raw_of([seen[1], *first.rest()])
    assert delta_text(rest) == "bc"


def test_a_response_in_the_background_goes_on_without_its_client(relay: Relay, worker: FakeWorker) -> None:
    stream = create_stream(relay.port, background=True)
    job = worker.begin()
    worker.speak(job, "a")
    seen: list[Event] = stream.until("response.output_text.delta")
    stream.close(hard=True)
    wait_until(lambda: relay.metric("rhapsode_relay_readers") == 0, "the client is gone")
    worker.speak(job, "b", start=1)
    worker.finish(job, 2)
    wait_until(lambda: status(relay, id_of(seen)) == "completed", "it completes")
    with read_again(relay.port, id_of(seen), seen[-1].data["sequence_number"]) as again:
        rest = again.rest()
    assert delta_text(seen + rest) == "ab"
    assert_numbered(seen + rest)


def test_a_response_in_the_foreground_ends_with_its_client(relay: Relay, worker: FakeWorker) -> None:
    stream = create_stream(relay.port)
    job = worker.begin()
    stream.next("response.in_progress")
    stream.close()
    assert worker.receive(frames.Cancel).job_id == job.job_id
    assert status(relay, f"resp_{job.job_id}") == "cancelled"


def test_who_waits_for_the_whole_may_leave_too(relay: Relay, worker: FakeWorker) -> None:
    with socket.create_connection(("127.0.0.1", relay.port), DEADLINE_S) as client:
        client.sendall(b'POST /v1/responses HTTP/1.1\r\nHost: t\r\nContent-Length: 13\r\n\r\n{"input":"x"}')
        job = worker.begin()
    assert worker.receive(frames.Cancel).job_id == job.job_id


def test_a_response_in_the_background_is_answered_at_once_and_looked_at(relay: Relay, worker: FakeWorker) -> None:
    answer = create(relay, background=True, metadata={"a": "b"})
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    response_id = answer.json()["id"]
    job = worker.begin()
    worker.speak(job, "a")
    wait_until(lambda: status(relay, response_id) == "in_progress", "it runs")
    wait_until(lambda: relay.get(f"/v1/responses/{response_id}").json()["output"], "there is text")
    shown = relay.get(f"/v1/responses/{response_id}").json()
    assert shown["output"][0]["status"] == "in_progress"
    assert (shown["usage"], shown["metadata"], shown["background"]) == (None, {"a": "b"}, True)
    worker.finish(job, 1)
    wait_until(lambda: status(relay, response_id) == "completed", "it completes")
    assert relay.get(f"/v1/responses/{response_id}").json()["created_at"] == answer.json()["created_at"]


# Cancelling


def test_to_cancel_twice_is_to_cancel_once(relay: Relay, worker: FakeWorker) -> None:
    with create_stream(relay.port, background=True) as stream:
        job = worker.begin()
        worker.speak(job, "a")
        seen = stream.until("response.output_text.delta")
        first, second = (cancel(relay, id_of(seen)) for _ in range(2))
        rest = stream.rest()
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json() == rest[-1].data["response"]
    assert (kinds_of(rest), first.json()["status"]) == (["failed"], "cancelled")
    assert first.json()["output"][0]["content"][0]["text"] == "a"
    assert worker.receive(frames.Cancel).job_id == job.job_id
    assert_numbered(seen + rest)


def test_what_is_over_is_not_cancelled_any_more(relay: Relay, worker: FakeWorker) -> None:
    response_id = create(relay, background=True).json()["id"]
    worker.serve("a")
    wait_until(lambda: status(relay, response_id) == "completed", "it completes")
    assert cancel(relay, response_id).json()["status"] == "completed"


def test_a_response_with_a_client_is_not_cancelled_so(relay: Relay, worker: FakeWorker) -> None:
    with create_stream(relay.port) as stream:
        job = worker.begin()
        assert_error(cancel(relay, f"resp_{job.job_id}"), 400, "not_in_background")
        worker.finish(job, 0)
        assert stream.rest()[-1].name == "response.completed"


# What cannot be read


@pytest.mark.parametrize("response_id", HOSTILE)
def test_an_id_that_is_none_is_not_found(shared: Relay, response_id: str) -> None:
    base = f"{shared.url}/v1/responses/{response_id}"
    answers = [httpx.get(base), httpx.get(f"{base}?stream=true"), httpx.post(f"{base}/cancel")]
    for answer in answers:
        assert answer.status_code == 404, answer.text
        assert answer.json()["error"]["code"] in ("response_not_found", "path_not_found")


def test_a_job_of_another_protocol_is_no_response(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.serve("a")
        stream.rest()
    assert_error(relay.get(f"/v1/responses/resp_{job.job_id}"), 404, "response_not_found")
    assert_error(cancel(relay, f"resp_{job.job_id}"), 404, "response_not_found")


@pytest.mark.parametrize("query", ["stream=true&starting_after=-1", "stream=true&starting_after=x", "stream=maybe"])
def test_a_place_that_is_none_is_refused(relay: Relay, worker: FakeWorker, query: str) -> None:
    response_id = create(relay, background=True).json()["id"]
    answer = relay.get(f"/v1/responses/{response_id}?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in ("starting_after", "stream")


def test_head_and_delete_hold_nothing_open(relay: Relay, worker: FakeWorker) -> None:
    response_id = create(relay, background=True).json()["id"]
    assert httpx.head(f"{relay.url}/v1/responses/{response_id}?stream=true").status_code == 200
    assert httpx.head(f"{relay.url}/v1/responses/{response_id}").status_code == 200
    wait_until(lambda: relay.metric("rhapsode_relay_readers") == 0, "nobody reads")
    assert_error(httpx.delete(f"{relay.url}/v1/responses/{response_id}"), 400, "unsupported")


def test_after_a_restart_the_text_is_there_and_the_numbers_are_not(tmp_path: Path) -> None:
    with running_relay() as relay, FakeWorker(relay.socket) as worker:
        wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "ready")
        answer = create(relay, background=True, metadata={"a": "b"}).json()
        job = worker.begin()
        worker.speak(job, "a")
        wait_until(lambda: relay.get(f"/v1/responses/{answer['id']}").json()["output"], "there is text")
        relay.send(signal.SIGKILL)
        relay.wait()
        again = Relay(manifest(), relay.socket.parent, relay.port, int(relay.admin_url.rpartition(":")[2]))
        kept = [frames.JobState(job_id=job.job_id, meta=job.meta, text="a", tokens=1)]
        try:
            with FakeWorker(again.socket, jobs=kept) as back:
                shown = again.get(f"/v1/responses/{answer['id']}").json()
                assert (shown["status"], shown["created_at"]) == ("in_progress", answer["created_at"])
                assert (shown["metadata"], shown["output"][0]["content"][0]["text"]) == ({"a": "b"}, "a")
                with read_again(again.port, answer["id"]) as stream:
                    assert (stream.status, stream.json()["error"]["code"]) == (410, "replay_window_exceeded")
                back.speak(job, "b", start=1)
                back.finish(job, 2)
                wait_until(lambda: status(again, answer["id"]) == "completed", "it completes")
                assert again.get(f"/v1/responses/{answer['id']}").json()["usage"]["output_tokens"] == 2
        finally:
            again.close()

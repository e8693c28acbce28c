"""What a client sees: order, ids, resume, channels, correlation. A real relay; the test plays the worker."""

import hashlib
import re
import threading
import time
from typing import Any

import pytest

from rhapsode_contract import frames
from rhapsode_contract.events import EventId
from support.fake_worker import FakeWorker
from support.processes import Relay, manifest, running_relay, wait_until
from support.streams import Stream, actions_of, ask, names_of, resume, text_of


def test_a_stream_tells_its_story_in_order(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port, headers={"X-Correlation-Id": "req-1"}) as stream:
        job = worker.begin()
        worker.speak(job, "Hé", "llo", " 🌅")
        worker.send(frames.Narration(human="3 tokens so far", action="tokens", job_id=job.job_id))
        worker.finish(job, 3)
        events = stream.rest()
    assert stream.ended
    assert names_of(events) == ["queued", "narration", "started", "token", "narration", "metrics", "end", "done"]
    for seq, event in enumerate(events, 1):
        assert event.name == event.data["type"]
        assert (event.data["seq"], event.data["job_id"], event.data["correlation_id"]) == (seq, job.job_id, "req-1")
        assert event.id == f"{job.job_id}-{EventId.parse(event.id).epoch}-{seq}"  # type: ignore[union-attr]
        assert ("ts" in event.data) == (event.name != "token")
    end = events[-2].data
    assert end["text_len"] == 7
    assert end["text_sha256"] == hashlib.sha256("Héllo 🌅".encode()).hexdigest()
    assert (end["tokens_out"], end["stop_reason"]) == (3, "stop")
    assert end["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert end["timing"].keys() == {"queue_ms", "ttft_ms", "decode_ms", "total_ms"}
    assert end["decode_time_ms"] == 1


def test_the_headers_keep_proxies_from_buffering(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.serve("a")
        stream.rest()
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.headers["cache-control"] == "no-cache, no-transform"
    assert stream.headers["x-accel-buffering"] == "no"
    assert stream.headers["x-job-id"] == job.job_id
    assert "content-length" not in stream.headers
    assert stream.raw.startswith(b"retry: 2000\nid: "), "retry rides on the first event"
    assert b"\r" not in stream.raw


def test_tokens_reach_the_reader_one_by_one(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.begin()
        for at in range(5):
            worker.speak(job, f"{at} ", start=at)
            assert stream.next("token").data["t"] == f"{at} ", "each is there before the next is made"


def test_joined_frames_are_as_many_events(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.begin()
        worker.send(
            frames.Token(job_id=job.job_id, i=0, ts="a\x7fb\x7fc"),
            frames.Token(job_id=job.job_id, i=3, t="🌅", count=2),
        )
        worker.finish(job, 5)
        tokens = [event.data for event in stream.rest() if event.name == "token"]
    assert [(token["i"], token["t"], token.get("count")) for token in tokens] == [
        (0, "a", None), (1, "b", None), (2, "c", None), (3, "🌅", 2),
    ]  # fmt: skip


# Resuming


def finished_job(relay: Relay, worker: FakeWorker) -> tuple[str, list[Any]]:
    with ask(relay.port) as stream:
        job = worker.serve("a", "b", "c")
        return job.job_id, stream.rest()


def test_a_reader_that_comes_back_gets_exactly_the_rest(relay: Relay, worker: FakeWorker) -> None:
    job_id, events = finished_job(relay, worker)
    for at, event in enumerate(events[:-1]):
        with resume(relay.port, job_id, event.id) as stream:
            again = stream.rest()
        assert stream.headers["x-replay"] == "replay"
        assert again[0].name == "replay"
        assert (again[0].data["from"], again[0].data["to"], again[0].data["gap"]) == (at + 2, len(events), False)
        assert again[0].id == event.id, "a replay uses up no seq"
        assert [one.raw for one in again[1:]] == [one.raw for one in events[at + 1 :]]


def test_a_reader_that_has_everything_is_told_to_stop(relay: Relay, worker: FakeWorker) -> None:
    job_id, events = finished_job(relay, worker)
    with resume(relay.port, job_id, events[-1].id) as stream:
        assert stream.status == 204
    with resume(relay.port, job_id, query=f"?after={len(events)}") as stream:
        assert stream.status == 204


def test_a_reader_without_a_cursor_gets_everything_also_afterwards(relay: Relay, worker: FakeWorker) -> None:
    job_id, events = finished_job(relay, worker)
    with resume(relay.port, job_id) as stream:
        assert [event.raw for event in stream.rest()][1:] == [event.raw for event in events][1:]
    assert stream.headers["x-replay"] == "live"


@pytest.mark.parametrize("kind", ["other epoch", "beyond the end", "garbage", "another job's", "colon"])
def test_a_cursor_that_cannot_be_honoured_gets_the_whole_text(relay: Relay, worker: FakeWorker, kind: str) -> None:
    other_id, others = finished_job(relay, worker)
    job_id, events = finished_job(relay, worker)
    last = EventId.parse(events[-1].id)
    assert last is not None
    cursor = {
        "other epoch": f"{job_id}-oldepoch-3",
        "beyond the end": f"{job_id}-{last.epoch}-9999",
        "garbage": "((garbage))",
        "another job's": others[3].id,
        "colon": "job:12",
    }[kind]
    with resume(relay.port, job_id, cursor) as stream:
        again = stream.rest()
    assert other_id != job_id
    assert [event.name for event in again] == ["snapshot", "end", "done"]
    snapshot = again[0].data
    assert (snapshot["text"], snapshot["tokens"], snapshot["status"]) == ("abc", 3, "completed")
    assert snapshot["reason"] == ("epoch" if kind == "other epoch" else "cursor")
    with resume(relay.port, job_id, again[0].id) as stream:
        assert [event.name for event in stream.rest()] == ["replay", "end", "done"], "its id is a good cursor"


def test_last_event_id_wins_over_after(relay: Relay, worker: FakeWorker) -> None:
    job_id, events = finished_job(relay, worker)
    with resume(relay.port, job_id, events[-2].id, "?after=1") as stream:
        assert [event.name for event in stream.rest()] == ["replay", "done"]


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "٣", "9" * 30])
def test_an_after_that_is_no_number_is_refused(relay: Relay, worker: FakeWorker, after: str) -> None:
    job_id, _ = finished_job(relay, worker)
    answer = relay.get(f"/v1/inference/{job_id}/stream?after={after}")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_cursor"
    assert answer.json()["error"]["param"] == "after"


def test_a_running_job_goes_on_for_a_reader_that_comes_back(relay: Relay, worker: FakeWorker) -> None:
    stream = ask(relay.port)
    job = worker.begin()
    worker.speak(job, "a", "b")
    seen = [stream.next("token"), stream.next("token")]
    stream.close(hard=True)
    worker.speak(job, "c", "d", start=2)
    with resume(relay.port, job.job_id, seen[-1].id) as again:
        assert again.next().name == "replay"
        worker.speak(job, "e", start=4)
        worker.finish(job, 5)
        events = again.rest()
    assert text_of(seen + events) == "abcde"
    assert "resumed" in actions_of(events)


@pytest.mark.parametrize(
    ("channels", "names"),
    [
        ("token", ["queued", "started", "token", "end", "done"]),
        ("narration", ["queued", "narration", "started", "narration", "end", "done"]),
        ("data,metrics", ["queued", "started", "data", "metrics", "end", "done"]),
    ],
)
def test_channels_filter_and_keep_ids(relay: Relay, worker: FakeWorker, channels: str, names: list[str]) -> None:
    with ask(relay.port) as everything:
        job = worker.begin()
        worker.speak(job, "a")
        worker.send(
            frames.Narration(human="n", job_id=job.job_id), frames.Data(action="x", payload=[1], job_id=job.job_id)
        )
        worker.finish(job, 1)
        ids = {event.id: event.raw for event in everything.rest()[1:]}
    with resume(relay.port, job.job_id, query=f"?channels={channels}") as stream:
        events = stream.rest()
    assert names_of(events) == names
    assert all(ids[event.id] == event.raw for event in events[1:])


def test_an_unknown_channel_is_refused_by_name(relay: Relay, worker: FakeWorker) -> None:
    job_id, _ = finished_job(relay, worker)
    error = relay.get(f"/v1/inference/{job_id}/stream?channels=token,gossip").json()["error"]
    assert (error["param"], error["message"]) == (
        "channels", "unknown channel 'gossip'; there are narration, token, data, metrics",
    )  # fmt: skip


def test_two_jobs_never_mix(relay: Relay, worker: FakeWorker) -> None:
    streams = [ask(relay.port, prompt=str(at)) for at in range(8)]
    jobs = [worker.begin() for _ in streams]
    by_prompt = {job.prompt: job for job in jobs}
    for i in range(50):
        for prompt, job in by_prompt.items():
            worker.speak(job, f"{prompt}.{i} ", start=i)
    for job in jobs:
        worker.finish(job, 50)
    for at, stream in enumerate(streams):
        events = stream.rest()
        assert text_of(events) == "".join(f"{at}.{i} " for i in range(50))
        assert {event.data["job_id"] for event in events} == {by_prompt[str(at)].job_id}
        stream.close()


def test_many_readers_of_one_job_get_the_same_bytes(relay: Relay, worker: FakeWorker) -> None:
    first = ask(relay.port)
    job = worker.begin()
    others = [resume(relay.port, job.job_id) for _ in range(5)]
    for i in range(20):
        worker.speak(job, f"{i} ", start=i)
    worker.finish(job, 20)
    bodies = set()
    for stream in [first, *others]:
        stream.rest()
        bodies.add(stream.raw)
        stream.close()
    assert len(bodies) == 1


# Silence


def test_silence_is_filled_with_heartbeats_that_dispatch_nothing() -> None:
    with (
        running_relay(manifest(heartbeatSeconds=1)) as relay,
        FakeWorker(relay.socket) as worker,
        ask(relay.port) as stream,
    ):
        job = worker.begin()
        stream.next("started")
        wait_until(lambda: stream.read_some() and stream.raw.endswith(b": hb\n: hb\n"), "two heartbeats came")
        worker.speak(job, "a")
        assert stream.next("token").data["t"] == "a"
        assert b": hb\n\n" not in stream.raw


# Correlation


def test_a_screen_that_subscribes_first_hears_every_job_of_its_id(relay: Relay, worker: FakeWorker) -> None:
    with Stream(relay.port, "/v1/correlations/req-7/stream") as screen:
        assert screen.status == 200
        for prompt in ("one", "two"):
            with ask(relay.port, prompt, headers={"X-Correlation-Id": "req-7"}) as agent:
                job = worker.serve(prompt)
                own = [event.raw for event in agent.rest()][1:]
            heard = [event for event in screen.until("done") if event.data["job_id"] == job.job_id]
            assert [event.raw for event in heard][1:] == own
        with ask(relay.port, "other", headers={"X-Correlation-Id": "req-8"}) as agent:
            worker.serve("other")
            agent.rest()
        with ask(relay.port, "three", headers={"X-Correlation-Id": "req-7"}) as agent:
            worker.serve("three")
            agent.rest()
        assert {event.data["correlation_id"] for event in screen.until("done")} == {"req-7"}


def test_a_screen_that_comes_later_gets_what_was_and_what_comes(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port, headers={"X-Correlation-Id": "req-7"}) as agent:
        worker.serve("a", "b")
        agent.rest()
    with Stream(relay.port, "/v1/correlations/req-7/stream?channels=narration") as screen:
        assert "token" not in [event.name for event in screen.until("done")]


def test_a_screen_that_comes_back_continues_its_job_and_gets_snapshots_of_the_others(
    relay: Relay, worker: FakeWorker
) -> None:
    ids = {"X-Correlation-Id": "req-7"}
    with ask(relay.port, "one", headers=ids), ask(relay.port, "two", headers=ids):
        one, two = worker.begin(), worker.begin()
        with Stream(relay.port, "/v1/correlations/req-7/stream") as screen:
            worker.speak(one, "a")
            cursor = screen.next("token").id
        worker.speak(one, "b", start=1)
        worker.speak(two, "c")
        with Stream(relay.port, "/v1/correlations/req-7/stream", headers={"Last-Event-ID": cursor}) as screen:
            worker.finish(one, 2)
            worker.finish(two, 1)
            events = screen.until("done")
            events += screen.until("done")
    of_one = [event for event in events if event.data["job_id"] == one.job_id]
    of_two = [event for event in events if event.data["job_id"] == two.job_id]
    assert of_one[0].name == "replay"
    assert text_of(of_one) == "b"
    assert of_two[0].name == "snapshot"
    assert of_two[0].data["reason"] == "joined"
    assert text_of(of_two) == "c"


@pytest.mark.parametrize("wanted", ["a%20b", "x" * 65, "a:b"])
def test_what_is_no_correlation_id_is_refused(relay: Relay, wanted: str) -> None:
    assert relay.get(f"/v1/correlations/{wanted}/stream").status_code == 400


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Correlation-Id": "a.b-c_1"}, "a.b-c_1"),
        ({"X-Request-Id": "r1"}, "r1"),
        ({"X-Correlation-Id": "bad id!", "X-Request-Id": "r1"}, "r1"),
        ({"X-Correlation-Id": "c1", "X-Request-Id": "r1"}, "c1"),
        (
            {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
            "4bf92f3577b34da6a3ce929d0e0e4736",
        ),
        ({"X-Correlation-Id": "x" * 65}, None),
        ({}, None),
    ],
)
def test_one_id_joins_answers_errors_and_events(
    relay: Relay, worker: FakeWorker, headers: dict[str, str], expected: str | None
) -> None:
    with ask(relay.port, headers=headers) as stream:
        job = worker.serve("a")
        events = stream.rest()
    chosen = stream.headers["x-correlation-id"]
    assert chosen == stream.headers["x-request-id"] == job.correlation_id
    assert chosen == expected if expected else re.fullmatch(r"req-[0-9a-f]{16}", chosen)
    assert {event.data["correlation_id"] for event in events} == {chosen}
    with Stream(relay.port, "/v1/inference/nope", headers=headers) as answer:
        body = answer.json()
    if expected:
        assert body["correlation_id"] == answer.headers["x-correlation-id"] == expected


def test_narration_reaches_who_waits_while_tokens_reach_who_reads(relay: Relay) -> None:
    """A request that comes before the worker is ready is held, and told what happens."""
    with ask(relay.port) as stream, FakeWorker(relay.socket, ready=False) as worker:
        assert stream.next("queued").data["position"] == 0
        worker.send(
            frames.State(phase="loading"),
            frames.Narration(human="Loading weights", action="weights_load", progress=0.5),
        )
        while stream.next("narration").data["action"] != "weights_load":
            continue
        worker.send(frames.State(phase="ready", caps=frames.Caps(slots=1)))
        worker.serve("a")
        worker.send(frames.Narration(human="VRAM is full", action="vram_pressure"))
        events = stream.rest()
        assert text_of(events) == "a"
        assert "vram_pressure" not in actions_of(events), "the worker's life is not the request's once it runs"


def test_places_in_line_are_told_when_they_change() -> None:
    with running_relay() as relay, FakeWorker(relay.socket, slots=1) as worker:
        streams = [ask(relay.port, prompt=str(at)) for at in range(3)]
        first = worker.begin()
        assert streams[2].next("queued").data["position"] == 1
        worker.finish(first, 0)
        worker.begin()
        assert streams[2].next("queued").data["position"] == 0
        told = streams[2].next("narration").data
        assert (told["action"], told["human"]) == ("queued", told["human"])
        assert told["human"].startswith("Waiting: number 1 in line")
        for stream in streams:
            stream.close()


def test_a_thousand_tokens_arrive_while_another_thread_reads(relay: Relay, worker: FakeWorker) -> None:
    """The reader and the writer run at once, so reads and writes interleave in every way."""
    with ask(relay.port, max_tokens=1000) as stream:
        job = worker.begin()

        def speak() -> None:
            for i in range(1000):
                worker.speak(job, f"{i},", start=i)
                if i % 97 == 0:
                    time.sleep(0.001)
            worker.finish(job, 1000)

        thread = threading.Thread(target=speak)
        thread.start()
        events = stream.rest()
        thread.join()
    tokens = [event.data for event in events if event.name == "token"]
    assert [token["i"] for token in tokens] == list(range(1000))
    assert text_of(events) == "".join(f"{i}," for i in range(1000))

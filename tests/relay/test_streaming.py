"""What a client sees while a request waits and runs: order, bytes, silence; the test plays the worker."""

import hashlib
import threading
import time

from rhapsode_contract import frames
from rhapsode_contract.events import EventId
from support.conversations import conversing
from support.fake_worker import FakeWorker, finished, spoken
from support.processes import Relay, running_relay, wait_until
from support.streams import actions_of, ask, names_of, resume, text_of


def test_a_stream_tells_its_story_in_order(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port, headers={"X-Correlation-Id": "req-1"}) as stream:
        job = worker.begin()
        narration = frames.Narration(human="3 tokens so far", action="tokens", job_id=job.job_id)
        worker.send(*spoken(job, "Hé", "llo", " 🌅"), narration, finished(job, 3))
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


def test_no_text_ends_a_line_where_some_clients_end_one(relay: Relay, worker: FakeWorker) -> None:
    texts = ("Lines\u2028", "of\u2029 verse\x85", "\x0b\x0c\x1c\x1d\x1e\r\n")
    with ask(relay.port) as stream:
        worker.serve(*texts)
        events = stream.rest()
    said = stream.raw.decode()
    assert said.splitlines() == said.split("\n")[:-1], "httpx's iter_lines goes by Python's line ends"
    assert text_of(events) == "".join(texts)


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


# Waiting


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
        wait_until(lambda: relay.metric("rhapsode_worker_ready") == 1, "the worker is ready")
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


# Silence


def test_silence_is_filled_with_heartbeats_that_dispatch_nothing() -> None:
    with conversing(heartbeatSeconds=1) as (_, worker, stream):
        job = worker.begin()
        stream.next("started")
        wait_until(lambda: stream.read_some() and stream.raw.endswith(b": hb\n: hb\n"), "two heartbeats came")
        worker.speak(job, "a")
        assert stream.next("token").data["t"] == "a"
        assert b": hb\n\n" not in stream.raw

"""What a reader of a job is promised on every transport: SSE and WebSockets are held to the same."""

import signal
from pathlib import Path

import httpx
import pytest

from rhapsode_contract import frames, names
from support.conversations import conversing
from support.fake_worker import FakeWorker, spoken
from support.processes import Relay, free_port, manifest, running_relay, wait_until
from support.requests import post
from support.streams import names_of, text_of
from support.transports import SSE, TRANSPORTS, Transport, essence, is_over, refusal


@pytest.fixture(params=TRANSPORTS, ids=lambda transport: transport.name)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


def ordered(relay: Relay, **wishes: object) -> str:
    """Ask without reading; return the job."""
    return str(post(relay, {"prompt": "hello", "on_disconnect": "continue"} | wishes).json()["job_id"])


def finished(relay: Relay, worker: FakeWorker, *texts: str) -> str:
    """Return a job that is over."""
    job_id = ordered(relay)
    worker.serve(*texts)
    wait_until(lambda: relay.get(f"/v1/inference/{job_id}").json()["status"] == "completed", "the job is over")
    return job_id


# Live


def test_each_event_is_there_before_the_next_is_made(relay: Relay, worker: FakeWorker, transport: Transport) -> None:
    job_id = ordered(relay)
    with transport.open(relay.port, job_id) as stream:
        job = worker.begin()
        for at in range(5):
            worker.speak(job, f"{at} ü\n🌅", start=at)
            assert stream.next("token").data["t"] == f"{at} ü\n🌅"
        worker.finish(job, 5)
        assert names_of(stream.rest()) == ["metrics", "end", "done"]
    assert is_over(stream)
    assert (stream.headers["x-job-id"], stream.headers["x-replay"]) == (job_id, "live")


def test_the_same_events_come_with_the_same_bytes(relay: Relay, worker: FakeWorker, transport: Transport) -> None:
    job_id = ordered(relay)
    with transport.open(relay.port, job_id) as live, SSE.open(relay.port, job_id) as other:
        job = worker.begin()
        short = frames.Token(job_id=job_id, i=0, ts="a\x7fb\x7fc"), frames.Token(job_id=job_id, i=3, t="}", count=2)
        data = frames.Data(action="x", payload={"id: 1\n\nevent: y": "\ndata: z\n\n"}, job_id=job_id)
        worker.send(*short, data, *spoken(job, "long " * 200, "longer " * 8_000, start=5))
        worker.finish(job, 7)
        mine = live.rest()
        assert list(map(essence, mine)) == list(map(essence, other.rest()))
    assert "metrics" in names_of(mine)
    told = [event for event in mine if event.name != "metrics"]  # which come when the relay looks
    assert names_of(told) == ["queued", "narration", "started", "token", "data", "token", "end", "done"]


def test_a_hundred_readers_each_get_their_own_job(relay: Relay, worker: FakeWorker, transport: Transport) -> None:
    jobs = {ordered(relay): worker.begin() for _ in range(4)}
    streams = [(job_id, transport.open(relay.port, job_id)) for job_id in jobs for _ in range(25)]
    for i in range(40):
        for job in jobs.values():
            worker.speak(job, f"{job.job_id}.{i} ", start=i)
    for job in jobs.values():
        worker.finish(job, 40)
    for job_id, stream in streams:
        events = stream.rest()
        assert text_of(events) == "".join(f"{job_id}.{i} " for i in range(40))
        assert {event.data["job_id"] for event in events} == {job_id}
        assert is_over(stream)
        stream.close()


def test_silence_is_filled(transport: Transport) -> None:
    with conversing(heartbeatSeconds=1) as (relay, worker, _):
        job = worker.begin()
        with transport.open(relay.port, job.job_id) as stream:
            stream.next("started")
            wait_until(lambda: stream.read_some() and stream.raw.endswith(transport.silence), "a heartbeat came")
            worker.speak(job, "a")
            assert stream.next().data.get("t") == "a", "a heartbeat is no event"


# Coming back


def test_who_comes_back_gets_exactly_the_rest(relay: Relay, worker: FakeWorker, transport: Transport) -> None:
    job_id = finished(relay, worker, "a", "b", "c")
    with transport.open(relay.port, job_id) as stream:
        events = stream.rest()
    for at, event in enumerate(events[:-1]):
        ways = [("", f"?after={at + 1}"), (event.id, ""), ("", f"?last_event_id={event.id}"), (event.id, "?after=1")]
        for last_event_id, query in ways:
            with transport.open(relay.port, job_id, last_event_id, query) as stream:
                opening, *rest = stream.rest()
            assert (opening.name, opening.data["from"], opening.data["gap"]) == ("replay", at + 2, False)
            assert opening.id == event.id, "a replay uses up no seq"
            assert list(map(essence, rest)) == list(map(essence, events[at + 1 :]))
            assert is_over(stream)


def test_who_has_everything_is_told_to_stop(relay: Relay, worker: FakeWorker, transport: Transport) -> None:
    job_id = finished(relay, worker, "a")
    with transport.open(relay.port, job_id) as stream:
        last = stream.rest()[-1]
    with transport.open(relay.port, job_id, last.id) as stream:
        assert stream.rest() == []
    assert is_over(stream)


@pytest.mark.parametrize("cursor", ["JOB-oldepoch-3", "garbage((", "sim-0000000000000000-e-1"])
def test_a_cursor_that_cannot_be_honoured_gets_a_snapshot(
    relay: Relay, worker: FakeWorker, transport: Transport, cursor: str
) -> None:
    job_id = finished(relay, worker, "a", "b")
    with transport.open(relay.port, job_id, cursor.replace("JOB", job_id)) as stream:
        events = stream.rest()
    assert [event.name for event in events] == ["snapshot", "end", "done"]
    assert events[0].data["text"] == "ab"
    assert events[0].data["reason"] == ("epoch" if "oldepoch" in cursor else "cursor")


def test_a_relay_that_was_killed_is_another_epoch(tmp_path: Path, transport: Transport) -> None:
    ports = free_port(), free_port()
    first = Relay(manifest(), tmp_path, *ports)
    with FakeWorker(first.socket) as worker:
        job_id = ordered(first)
        stream = transport.open(first.port, job_id)
        job = worker.begin()
        worker.speak(job, "a", "b")
        seen = [stream.next("token"), stream.next("token")]
        first.send(signal.SIGKILL)
        stream.rest()
        assert not is_over(stream), "it broke off: come back"
        stream.close()
        first.close()
    second = Relay(manifest(), tmp_path, *ports)
    held = [frames.JobState(job_id=job_id, text="abc", tokens=3, meta=dict(job.meta))]
    with FakeWorker(second.socket, jobs=held) as worker, transport.open(second.port, job_id, seen[-1].id) as stream:
        worker.send(frames.Prefill(job_id=job_id, prompt_tokens=3))
        worker.speak(job, "d", start=3)
        worker.finish(job, 4)
        events = stream.rest()
    second.close()
    assert (events[0].name, events[0].data["reason"], text_of(events)) == ("snapshot", "epoch", "abcd")


@pytest.mark.parametrize("channels", ["token", "narration", "data,metrics"])
def test_channels_filter_and_keep_ids(relay: Relay, worker: FakeWorker, transport: Transport, channels: str) -> None:
    job_id = finished(relay, worker, "a")
    with SSE.open(relay.port, job_id) as stream:
        everything = {essence(event) for event in stream.rest()}
    with transport.open(relay.port, job_id, query=f"?channels={channels}") as stream:
        events = stream.rest()
    assert {essence(event) for event in events} < everything
    assert {event.name for event in events} - {"queued", "started", "end", "done"} <= set(channels.split(","))


# Ends


def test_a_cancelled_job_says_so_and_is_over(relay: Relay, worker: FakeWorker, transport: Transport) -> None:
    job_id = ordered(relay)
    with transport.open(relay.port, job_id) as stream:
        worker.speak(worker.begin(), "a")
        stream.next("token")
        httpx.delete(f"{relay.url}/v1/inference/{job_id}")
        events = stream.rest()
    assert (names_of(events)[-2:], events[-2].data["error"]["code"]) == (["error", "done"], "cancelled")
    assert is_over(stream)


def test_a_lost_worker_ends_its_jobs_at_once(relay: Relay, transport: Transport) -> None:
    with FakeWorker(relay.socket) as worker:
        job_id = ordered(relay)
        stream = transport.open(relay.port, job_id)
        worker.speak(worker.begin(), "a")
        stream.next("token")
    events = stream.rest()
    stream.close()
    assert (events[-2].data["error"]["code"], events[-2].data["retryable"]) == ("worker_lost", True)
    assert is_over(stream)


def test_a_relay_that_ends_says_goodbye_once(transport: Transport) -> None:
    with running_relay(manifest(drainSeconds=1)) as relay, FakeWorker(relay.socket) as worker:
        with transport.open(relay.port, ordered(relay)) as stream:
            worker.speak(worker.begin(), "a")
            stream.next("token")
            relay.send(signal.SIGTERM)
            events = stream.rest()
        assert (events[-2].data["error"]["code"], events[-1].name) == ("server_shutdown", "done")
        assert is_over(stream)
        assert relay.wait() == 0


# Refusals


def test_refusals_say_why(relay: Relay, worker: FakeWorker, transport: Transport) -> None:
    job_id = finished(relay, worker, "a")
    lost = "sim-0123456789abcdef"
    for ways, wanted in (
        ((lost,), (transport.gone, "job_not_found")),
        ((lost, f"{lost}-oldepoch-3"), (transport.lost, "job_lost")),
        ((job_id, "", "?after=x"), (transport.wrong, "invalid_cursor")),
        ((job_id, "", "?channels=gossip"), (transport.wrong, "invalid_request")),
    ):
        with transport.open(relay.port, *ways) as stream:
            assert refusal(stream) == wanted


def test_one_reader_too_many_is_told_to_come_again(relay: Relay, worker: FakeWorker, transport: Transport) -> None:
    job_id = ordered(relay)
    streams = [transport.open(relay.port, job_id) for _ in range(32)]
    with transport.open(relay.port, job_id) as late:
        assert refusal(late) == (transport.busy, "too_many_readers")
    for stream in streams:
        stream.close(hard=True)

    def try_again() -> bool:
        with transport.open(relay.port, job_id) as stream:
            return next(stream.events(), None) is not None

    assert wait_until(try_again, "there is room again")


def test_a_key_is_asked_for_before_anything_is_said(tmp_path: Path, transport: Transport) -> None:
    (tmp_path / "alice").write_text("first")
    with running_relay(environ={names.ENV_KEYS: str(tmp_path)}) as relay, FakeWorker(relay.socket) as worker:
        opened = {"Authorization": "Bearer first"}
        wait_until(lambda: relay.metric("rhapsode_worker_ready") == 1, "the worker is ready")
        job_id = httpx.post(f"{relay.url}/v1/inference", json={"prompt": "a"}, headers=opened).json()["job_id"]
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with transport.open(relay.port, job_id, headers=headers) as stream:
                assert (stream.status, refusal(stream)[1]) == (401, "invalid_api_key")
        for headers in (opened, {"X-Api-Key": "first"}):
            with transport.open(relay.port, job_id, headers=headers) as stream:
                assert stream.next("queued")
        assert worker.begin().job_id == job_id

"""What a reader gets that comes back, comes late or wants only some channels: nothing lost, nothing twice."""

from typing import Any

import pytest

from rhapsode_contract import frames
from rhapsode_contract.events import EventId
from support.fake_worker import FakeWorker, finished, spoken
from support.processes import Relay
from support.streams import actions_of, ask, names_of, resume, text_of


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
        narration = frames.Narration(human="n", job_id=job.job_id)
        data = frames.Data(action="x", payload=[1], job_id=job.job_id)
        worker.send(*spoken(job, "a"), narration, data, finished(job, 1))
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

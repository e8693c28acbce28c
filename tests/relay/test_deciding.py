"""What the relay decides without sockets: who runs, who is kept, what a job says and how it ends."""

import hashlib
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from rhapsode_contract import events, frames
from rhapsode_contract.catalogue import narrate
from rhapsode_relay.jobs import Job
from rhapsode_relay.queueing import Line
from rhapsode_relay.registry import Registry, new_job_id
from rhapsode_relay.terms import JobTerms
from rhapsode_relay.turns.turn_jobs import TurnJob


def make_job(name: str = "w-1", **terms: Any) -> Job:
    agreed: dict[str, Any] = {"correlation_id": "c1", "max_tokens": 100, "on_disconnect": "grace"}
    return Job(name, "e1", JobTerms(**(agreed | terms)))


def started(**terms: Any) -> Job:
    job = make_job(**terms)
    job.start(frames.Prefill(job_id=job.id, prompt_tokens=3), "m", "w")
    return job


def names(job: Job) -> list[str]:
    written = b"".join(job.journal.events())
    return [line.decode().removeprefix("event: ") for line in written.split(b"\n") if line.startswith(b"event: ")]


# The line


def test_slots_are_given_in_order_of_arrival() -> None:
    line, jobs = Line(10), [make_job(f"w-{at}") for at in range(4)]
    for job in jobs:
        line.join(job)
    assert line.call() == []
    line.open(2)
    assert line.call() == jobs[:2]
    assert line.call() == []
    line.release(jobs[1].id, 1.0)
    assert line.call() == [jobs[2]]


def test_a_full_line_has_no_room_but_a_free_slot_is_room() -> None:
    line = Line(0)
    assert not line.has_room
    line.open(1)
    assert line.has_room
    line.join(make_job())
    line.call()
    assert not line.has_room


def test_nobody_is_called_while_the_worker_takes_nothing_new() -> None:
    line = Line(10)
    line.open(2)
    line.close()
    line.join(make_job())
    assert line.call() == []


def test_the_waiting_time_is_judged_by_what_jobs_took() -> None:
    line = Line(10)
    assert line.eta_s(0) is None
    assert line.retry_after_s() == 5
    line.open(2)
    line.hold("w-9")
    line.release("w-9", 8.0)
    assert line.eta_s(0) == 8.0
    assert line.eta_s(3) == 16.0
    assert 1 <= line.retry_after_s() <= 60


def test_a_slot_is_released_once() -> None:
    line = Line(10)
    line.hold("w-1")
    line.release("w-1")
    line.release("w-1")
    assert line.running == 0


# The registry


def make_registry(**limits: Any) -> Registry:
    return Registry(**({"keep_s": 300, "memory_bytes": 10**9, "max_jobs": 100} | limits))


def test_a_finished_job_is_forgotten_when_its_time_is_over_and_a_running_one_never() -> None:
    registry = make_registry(keep_s=10)
    over, running = make_job("w-1", idempotency_key="k"), make_job("w-2")
    registry.add(over)
    registry.add(running)
    over.fail("cancelled", "enough")
    now = over.ended_at
    assert now is not None
    assert list(registry.visit(now, 1)) == [over, running]
    assert list(registry.visit(now + 11, 1)) == [running]
    assert registry.get("w-1") is None
    assert registry.by_key("k") is None
    assert registry.correlated("c1") == [running]


def test_what_a_job_repeats_of_its_request_counts_as_memory() -> None:
    registry = make_registry(memory_bytes=64_000)
    for at in range(4):
        assert not registry.full
        registry.add(make_job(f"w-{at}", note={"response": {"metadata": {"a": "x" * 16_000}}}))
    assert registry.full


def test_memory_runs_out_for_the_oldest_finished_jobs_first() -> None:
    registry = make_registry(max_jobs=3)
    jobs = [make_job(f"w-{at}") for at in range(3)]
    for job in jobs:
        registry.add(job)
    jobs[1].fail("x", "y")
    jobs[0].fail("x", "y")
    assert registry.full
    registry.make_room()
    assert registry.get("w-1") is None
    assert registry.get("w-0") is jobs[0]
    jobs[1:2] = []


def test_running_jobs_keep_a_full_registry_full() -> None:
    registry = make_registry(memory_bytes=1)
    registry.add(make_job())
    registry.make_room()
    assert registry.full
    assert len(registry) == 1


def test_what_a_finished_turn_keeps_is_weighed() -> None:
    registry, turn = make_registry(), TurnJob("w-1", "epoch", make_job().terms, "tale", 65_536)
    registry.add(turn)
    turn.finish(frames.Finish(job_id="w-1", stop_reason="stop", tokens_out=0))
    finish = frames.Finish(job_id="w-2", stop_reason="stop", tokens_out=0)
    turn.complete({"narrative": "", "intents": {"n": [0] * 1000}}, [], [], finish, {})
    list(registry.visit(0.0, 1))
    assert registry.bytes > 20_000


def test_a_round_visits_every_job_in_shares() -> None:
    registry = make_registry()
    for at in range(10):
        registry.add(make_job(f"w-{at}"))
    seen = [job.id for _ in range(5) for job in registry.visit(0, 0.2)]
    assert seen == [f"w-{at}" for at in range(10)]


def test_job_ids_tell_their_worker_and_cannot_be_guessed() -> None:
    ids = {new_job_id("smollm-0") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(one.startswith("smollm-0-") and len(one) == len("smollm-0-") + 16 for one in ids)


# A job


def test_a_job_tells_its_story_in_order_and_proves_its_text() -> None:
    job = make_job()
    job.queue_at(0)
    job.say("accepted", prompt_chars=5, max_tokens=100)
    job.start(frames.Prefill(job_id=job.id, prompt_tokens=3), "m", "w")
    assert job.hear(frames.Token(job_id=job.id, i=0, t="Hé")) is None
    assert job.hear(frames.Token(job_id=job.id, i=1, ts="l\x7flo")) is None
    job.finish(frames.Finish(job_id=job.id, stop_reason="stop", tokens_out=3, prompt_tokens=3))
    assert names(job) == ["queued", "narration", "started", "token", "token", "token", "metrics", "end", "done"]
    end = msgspec.json.decode(
        next(iter(job.journal.events())).split(b"data: ")[-2].split(b"\n")[0], type=events.StreamEvent
    )
    assert isinstance(end, events.End)
    assert (end.text_len, end.text_sha256) == (5, hashlib.sha256("Héllo".encode()).hexdigest())


@pytest.mark.parametrize("late", ["token", "finish", "fail", "tell", "start", "give"])
def test_nothing_comes_after_done(late: str) -> None:
    job = started()
    job.fail("cancelled", "cancelled by client")
    before = names(job)
    match late:
        case "token":
            assert job.hear(frames.Token(job_id=job.id, i=0, t="x")) is None
        case "finish":
            job.finish(frames.Finish(job_id=job.id, stop_reason="stop", tokens_out=0))
        case "fail":
            job.fail("x", "y")
        case "tell":
            assert not job.tell(narrate("tokens", {"tokens": 1}))
        case "start":
            job.start(frames.Prefill(job_id=job.id, prompt_tokens=1), "m", "w")
        case "give":
            job.give(frames.Data(action="a", payload=1))
    assert names(job) == before
    assert before[-2:] == ["error", "done"]


@pytest.mark.parametrize(
    "frame",
    [
        frames.Token(job_id="w-1", i=1, t="gap"),
        frames.Token(job_id="w-1", i=0, t=""),
        frames.Token(job_id="w-1", i=0, t="x", count=0),
        frames.Token(job_id="w-1", i=0, t="x", count=-3),
        frames.Token(job_id="w-1", i=0, ts="a\x7f"),
        frames.Token(job_id="w-1", i=0, ts="\x7fa"),
        frames.Token(job_id="w-1", i=0, ts="a\x7f\x7fb"),
        frames.Token(job_id="w-1", i=0, t="x", count=101),
        frames.Token(job_id="w-1", i=0, ts="\x7f".join("x" * 101)),
    ],
)
def test_tokens_that_break_the_rules_are_told_apart(frame: frames.Token) -> None:
    job = started()
    assert job.hear(frame) is not None


def test_tokens_that_were_heard_before_are_left_out() -> None:
    job = started()
    for _ in range(2):
        assert job.hear(frames.Token(job_id="w-1", i=0, ts="a\x7fb")) is None
    assert job.journal.text() == "ab"


def test_a_reader_chooses_style_level_and_rate_of_narration() -> None:
    job = started(style="cute", level="warn", max_rate=1.0)
    assert not job.tell(narrate("tokens", {"tokens": 20}))
    warning = frames.Narration(human="careful", cute="oh", story="once", level="warn")
    assert job.tell(warning)
    job.tell(warning)
    written = b"".join(job.journal.events())
    assert b'"cute":"oh"' in written
    assert b"story" not in written


def test_narration_that_comes_too_fast_is_dropped_and_counted_but_warnings_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    still = SimpleNamespace(monotonic=lambda: 100.0, time=lambda: 1e9)
    monkeypatch.setattr("rhapsode_relay.jobs.time", still)
    job = started(max_rate=2.0)
    told = [job.tell(narrate("tokens", {"tokens": at})) for at in range(10)]
    assert told == [True, True] + [False] * 8
    assert job.tell(frames.Narration(human="careful", level="warn"))
    assert b'"dropped":9' in b"".join(job.journal.events()), "the warning itself took none of the budget"


def test_a_job_was_created_once_whatever_becomes_of_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: 100.0, time=lambda: 1e9)
    monkeypatch.setattr("rhapsode_relay.jobs.time", clock)
    job = started()
    clock.time = lambda: 2e9
    assert job.created == 1_000_000_000


def test_a_snapshot_has_all_that_a_reader_needs() -> None:
    job = started()
    job.say("tokenized", tokens=3)
    job.hear(frames.Token(job_id="w-1", i=0, ts="a\x7fb"))
    snapshot = job.snapshot("evicted")
    assert (snapshot.text, snapshot.tokens, snapshot.status, snapshot.seq) == ("ab", 2, "running", job.journal.head)
    assert [said.action for said in snapshot.narration] == ["tokenized"]


@pytest.mark.parametrize(
    ("code", "param", "status", "kind"),
    [
        ("cancelled", None, "cancelled", "cancelled"),
        ("worker_lost", None, "failed", "server_error"),
        ("context_length_exceeded", "prompt", "failed", "invalid_request_error"),
    ],
)
def test_an_error_says_what_kind_it_is(code: str, param: str | None, status: str, kind: str) -> None:
    job = started()
    job.fail(code, "why\n\x1b[31m", param=param)
    assert job.status == status
    assert job.error is not None
    assert (job.error.type, job.error.message, job.error.partial) == (kind, "why [31m", False)

"""What a relay tells, and what it amounts to: how the worker is, whether that is news, whether it gets on."""

import pytest

from rhapsode_contract import events
from rhapsode_contract.frames import Gpu, Level, Phase
from rhapsode_operator.tales import Tale
from support.snapshots import opening

GPU = Gpu(uuid="GPU-0", name="H200", total_bytes=2**37, used_bytes=2**30)
TS = "2026-11-21T10:00:07.000Z"


def met(phase: Phase = "loading", at: float = 10.0) -> Tale:
    tale = Tale(since=0.0, lost_at=0.0)
    assert tale.hear(opening(phase), at)
    return tale


def load(stage: str, percent: float | None = None, ts: str = TS) -> events.Load:
    return events.Load(seq=1, ts=ts, stage=stage, percent=percent)


def say(action: str, level: Level = "info", ts: str = TS) -> events.Narration:
    return events.Narration(seq=1, ts=ts, actor="supervisor", action=action, human=f"about {action}", level=level)


def state(phase: Phase, reason: str = "", message: str = "") -> events.State:
    return events.State(seq=1, phase=phase, reason=reason, message=message)


# The connection


def test_the_first_event_says_how_the_worker_is_and_that_the_relay_answers() -> None:
    vram = events.VramState(source="nvml", observed_at=TS, gpus=[GPU])
    at = events.LoadState(stage="loading weights", since="2026-11-21T09:59:00.000Z", percent=40)
    tale = Tale(since=0.0, lost_at=0.0)
    said = events.Narrated(human="Loading weights", action="weights_load", ts=TS)
    assert tale.hear(opening("loading", load=at, vram=vram, narration=said), 5)
    assert (tale.connected, tale.lost_at, tale.phase) == (True, None, "loading")
    assert (tale.load, tale.vram, tale.narration) == (at, vram, said)


def test_a_lost_connection_forgets_nothing_and_counts_from_its_first_loss() -> None:
    tale = met()
    tale.hear(load("loading weights", 40), 11)
    tale.lose(20)
    tale.lose(50)
    assert (tale.connected, tale.lost_at, tale.phase) == (False, 20, "loading")
    assert tale.load is not None
    assert tale.load.percent == 40


def test_a_relay_that_answers_again_is_news_and_one_that_repeats_itself_is_none() -> None:
    tale = met("ready")
    tale.lose(20)
    assert tale.hear(opening("ready"), 30)
    assert tale.lost_at is None
    assert not tale.hear(opening("ready"), 31)


def test_a_new_relay_that_has_not_met_its_worker_takes_back_what_was_told() -> None:
    tale = met("ready")
    tale.lose(20)
    tale.hear(opening("starting"), 30)
    assert tale.phase == "starting"


def test_a_worker_that_is_ready_at_reconnecting_loads_no_more() -> None:
    tale = met("loading")
    tale.hear(load("warming up", 90), 11)
    tale.lose(20)
    tale.hear(opening("ready"), 30)
    assert (tale.phase, tale.load, tale.load_began) == ("ready", None, None)


# News


@pytest.mark.parametrize(
    ("event", "news"),
    [
        (state("loading"), False),
        (state("ready"), True),
        (state("failed", "ModelNotFound", "no such model"), True),
        (state("draining", "Outgoing"), True),
        (load("a new stage"), True),
        (load("loading weights", 60), False),
        (say("note"), False),
        (say("gpu_hot", "warn"), True),
        (say("gpu_lost", "error"), True),
        (events.Vram(seq=1, ts=TS, source="nvml", gpus=[GPU]), False),
        (events.Data(seq=1, action="x", payload={}), False),
        (events.Done(seq=1), False),
        (events.Metrics(seq=1, tokens_out=1, queue_ms=0), False),
    ],
    ids=lambda value: getattr(value, "action", "") or type(value).__name__ if not isinstance(value, bool) else "",
)
def test_what_is_news(event: events.StreamEvent, *, news: bool) -> None:
    tale = met()
    tale.hear(load("loading weights", 40), 11)
    assert tale.hear(event, 12) == news


def test_the_reason_of_a_failure_is_kept_and_a_farewell_is_no_newer_sentence() -> None:
    tale = met()
    tale.hear(say("load_failed", "error"), 11)
    tale.hear(state("failed", "CUDAOutOfMemory", "asked for 9 MiB"), 12)
    assert not tale.hear(say("worker_lost", "error"), 13)
    assert (tale.phase, tale.reason, tale.message) == ("failed", "CUDAOutOfMemory", "asked for 9 MiB")
    assert tale.narration is not None
    assert tale.narration.action == "load_failed"


def test_the_sentence_of_an_error_stands_through_restarts_until_a_load_gets_on() -> None:
    tale = met()
    tale.hear(load("loading weights", 40), 11)
    tale.hear(say("load_failed", "error"), 12)
    tale.hear(state("failed", "ModelNotFound", "no such model"), 12)
    tale.lose(13)
    again = events.Narrated(human="No NVIDIA driver here", action="device_none", ts=TS)
    tale.hear(opening("starting", narration=again), 14)
    steps: list[tuple[str, Level]] = [("container_restart", "warn"), ("start", "info"), ("device_none", "info")]
    for action, level in steps:
        tale.hear(say(action, level), 15)
        assert action_of(tale) == "load_failed"
    tale.hear(load("loading weights", 1), 16)
    tale.hear(say("weights_load"), 17)
    assert action_of(tale) == "weights_load"


def test_an_error_of_who_serves_is_one_sentence_of_many() -> None:
    tale = met("ready")
    steps: list[tuple[str, Level]] = [("failed", "error"), ("note", "info")]
    for action, level in steps:
        tale.hear(say(action, level), 11)
        assert action_of(tale) == action


def test_an_error_of_who_served_until_then_stands() -> None:
    tale = met("ready")
    tale.hear(say("engine_exit", "error"), 11)
    tale.hear(state("failed", "EngineCrash", "ended"), 12)
    tale.hear(say("start"), 13)
    assert action_of(tale) == "engine_exit"


def test_a_worker_that_serves_and_a_new_pull_end_a_complaint() -> None:
    for event in (
        say("image_pull"),
        state("ready"),
        opening("ready", narration=events.Narrated(human="", action="x")),
    ):
        tale = met()
        tale.hear(say("image_failed", "error"), 11)
        tale.hear(event, 12)
        tale.hear(say("start"), 13)
        assert action_of(tale) == "start"


def action_of(tale: Tale) -> str:
    assert tale.narration is not None
    return tale.narration.action


def test_each_warning_counts_once() -> None:
    tale = met()
    for level in ("info", "warn", "error", "debug"):
        tale.hear(say("gpu", level), 11)
    assert tale.alarm == 2


# Progress


@pytest.mark.parametrize(
    ("event", "moves"),
    [
        (load("loading weights", 41), True),
        (load("loading weights", 40), False),
        (load("warming up"), True),
        (say("weights_load"), True),
        (say("image_still_pulling"), True),
        (say("still"), False),
        (say("load_stalled", "error"), False),
        (state("ready"), True),
        (state("loading"), False),
        (events.Vram(seq=1, source="nvml", gpus=[GPU]), False),
        (opening("loading"), False),
    ],
    ids=lambda value: getattr(value, "action", "") or type(value).__name__ if not isinstance(value, bool) else "",
)
def test_what_counts_as_getting_on(event: events.StreamEvent, *, moves: bool) -> None:
    tale = met()
    tale.hear(load("loading weights", 40), 11)
    tale.hear(event, 99)
    assert tale.progress_at == (99 if moves else 11)


def test_a_stage_keeps_its_beginning_and_a_load_its_own() -> None:
    tale = met()
    tale.hear(load("loading weights", 1, ts="2026-11-21T10:00:01.000Z"), 11)
    tale.hear(load("loading weights", 50, ts="2026-11-21T10:05:00.000Z"), 310)
    assert tale.load is not None
    assert tale.load.since == "2026-11-21T10:00:01.000Z"
    tale.hear(load("warming up", ts="2026-11-21T10:06:00.000Z"), 370)
    assert tale.load.since == "2026-11-21T10:06:00.000Z"
    assert tale.load_began == 10
    tale.hear(state("ready"), 400)
    tale.hear(state("loading"), 500)
    assert tale.load_began == 500, "a second load is another one"


def test_the_stages_of_the_latest_load_are_kept_in_order() -> None:
    tale = met()
    for stage in ("importing", "loading weights", "loading weights", "warming up"):
        tale.hear(load(stage), 11)
    assert tale.stages == ["importing", "loading weights", "warming up"]
    tale.hear(state("ready"), 12)
    assert tale.stages == ["importing", "loading weights", "warming up"], "whoever looks only now finds them"
    tale.hear(state("loading"), 13)
    assert tale.stages == []
    for number in range(1000):
        tale.hear(load(f"stage {number}"), 14)
    assert len(tale.stages) == 50


def test_vram_is_the_latest_with_its_moment() -> None:
    tale = met()
    tale.hear(events.Vram(seq=1, ts=TS, source="nvml", gpus=[GPU]), 11)
    assert tale.vram == events.VramState(source="nvml", observed_at=TS, gpus=[GPU])
    tale.hear(events.Vram(seq=2, ts=TS, source="none"), 12)
    assert tale.vram.source == "none"

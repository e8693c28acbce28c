"""The write budget of telemetry: nothing important waits, and nobody can make us write all the time."""

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from rhapsode_contract import events
from rhapsode_contract.frames import Gpu
from rhapsode_operator import budgeting, reporting
from rhapsode_operator.budgeting import Gauge, Written, wait_s, write
from rhapsode_operator.tales import Tale
from support.snapshots import opening, pod

LOAD_S = 1200
STEP_S = 0.25
Story = Callable[[int, Tale, Random], None]


def play(story: Story, seconds: int = LOAD_S) -> list[float]:
    """Return the moments at which the status is written while a relay tells a story, second by second."""
    tale, loading, chance = Tale(since=0, lost_at=0), pod(state="loading"), Random(1)
    tale.hear(opening("loading"), 0)
    writes: list[float] = []
    last: Written | None = None
    for step in range(round(seconds / STEP_S)):
        now = step * STEP_S
        if now == int(now):
            story(int(now), tale, chance)
        gauge = reporting.gauge([(loading, tale)], now)
        if wait_s(last, gauge, now) == 0:
            writes.append(now)
            last = write(last, gauge, now)
    return writes


def load(tale: Tale, now: int, stage: str, percent: float) -> None:
    tale.hear(events.Load(seq=1, stage=stage, percent=percent), now)


def hold(tale: Tale, now: int, share: float) -> None:
    gpu = Gpu(uuid="GPU-0", name="H200", total_bytes=2**37, used_bytes=round(share * 2**37))
    tale.hear(events.Vram(seq=1, source="nvml", gpus=[gpu]), now)


def say(tale: Tale, now: int, level: str = "info") -> None:
    given: dict[str, str] = {"actor": "supervisor", "action": "note", "human": f"second {now}", "level": level}
    tale.hear(events.Narration(seq=1, **given), now)  # type: ignore[arg-type]


def steady(now: int, tale: Tale, chance: Random) -> None:
    """Six stages, each from 0 to 100 %, memory that grows, a sentence a second."""
    load(tale, now, f"stage {now // 200}", now % 200 / 2)
    hold(tale, now, now / LOAD_S)
    say(tale, now)


def nervous(now: int, tale: Tale, chance: Random) -> None:
    """Percent and memory jump about."""
    load(tale, now, f"stage {now // 200}", chance.uniform(0, 100))
    hold(tale, now, chance.random())
    say(tale, now)


def alarming(now: int, tale: Tale, chance: Random) -> None:
    nervous(now, tale, chance)
    say(tale, now, "warn")


def hectic(now: int, tale: Tale, chance: Random) -> None:
    """A new stage and an error every second."""
    load(tale, now, f"stage {now}", chance.uniform(0, 100))
    hold(tale, now, chance.random())
    say(tale, now, "error")


def quiet(now: int, tale: Tale, chance: Random) -> None:
    """A worker that serves: memory moves a little, and a request is narrated now and then."""
    hold(tale, now, 0.8 + chance.uniform(-0.02, 0.02))
    if chance.random() < 0.1:
        say(tale, now)


@pytest.mark.parametrize("story", [steady, nervous, alarming, hectic], ids=lambda story: story.__name__)
def test_a_load_of_twenty_minutes_costs_at_most_25_writes(story: Story) -> None:
    writes = play(story)
    assert 10 <= len(writes) <= 25
    assert max(after - before for before, after in pairwise(writes)) <= 300, "and is not forgotten"


def test_a_worker_that_serves_costs_none() -> None:
    assert len(play(quiet, 3600)) <= 2


def test_every_stage_of_a_usual_load_is_written_within_half_a_second() -> None:
    writes = play(steady)
    assert [any(0 <= at - began <= 0.5 for at in writes) for began in range(0, LOAD_S, 200)] == [True] * 6


BEFORE = Written(Gauge("w-0:loading", "weights", alarms=1, percent=40, used_share=50), at=100)


@pytest.mark.parametrize(
    ("change", "now", "wait"),
    [
        ({}, 9_999, None),
        ({"percent": 44.9, "used_share": 54.9}, 9_999, None),
        ({"phase": "w-0:ready"}, 101, 0),
        ({"phase": "w-0:ready"}, 100.2, 0.3),
        ({"phase": "w-0:loading w-1:starting"}, 101, 0),
        ({"stage": "warming up"}, 101, 0),
        ({"stage": "warming up"}, 100, 0.5),
        ({"alarms": 2}, 100.5, 1.5),
        ({"alarms": 2}, 102, 0),
        ({"percent": 45}, 110, 20),
        ({"percent": 45}, 130, 0),
        ({"percent": None}, 110, 20),
        ({"percent": 10}, 110, 20),
        ({"used_share": 55}, 110, 20),
        ({"percent": 45, "load_s": 1000}, 110, 190),
    ],
    ids=str,
)
def test_what_waits_how_long(change: dict[str, object], now: float, wait: float | None) -> None:
    found = wait_s(BEFORE, BEFORE.gauge._replace(**change), now)  # type: ignore[arg-type]
    assert found == wait if wait is None else found == pytest.approx(wait)


def test_the_first_write_is_made_at_once() -> None:
    assert wait_s(None, Gauge(""), 0) == 0


def test_a_phase_is_written_at_once_also_after_a_flood_of_warnings() -> None:
    last = Written(Gauge("loading"), 0)
    for number in range(100):
        last = write(last, Gauge("loading", alarms=number), number)
    assert (wait_s(last, Gauge("loading", alarms=100), 99.5) or 0) > 60
    assert wait_s(last, Gauge("failed", alarms=100), 99.5) == 0
    assert wait_s(last, Gauge("loading", alarms=100), 99 + budgeting.PER_HASTY_S) == 0


def test_haste_is_forgiven() -> None:
    last = Written(Gauge("loading"), 0, haste=budgeting.HASTY)
    assert wait_s(last, Gauge("loading", alarms=1), budgeting.PER_HASTY_S * 4) == 0
    assert write(last, Gauge("loading", alarms=1), budgeting.PER_HASTY_S * 4).haste == budgeting.HASTY - 3


def test_a_pod_that_begins_to_serve_is_written_at_once_and_one_that_ceases_soon() -> None:
    last = Written(Gauge("p", ready=1), 100)
    assert wait_s(last, Gauge("p", ready=2), 100.1) == 0
    assert wait_s(last, Gauge("p", ready=0), 100.1) == pytest.approx(0.4)

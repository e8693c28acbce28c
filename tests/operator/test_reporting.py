"""What workers tell, as the status has it: the least advanced load, all memory, the last sentence."""

from typing import Any

import msgspec
import pytest

from rhapsode_contract import events
from rhapsode_contract.frames import Gpu
from rhapsode_contract.statuses import LoadStatus, NarrationStatus, Status
from rhapsode_operator.observing import Pod
from rhapsode_operator.reporting import gauge, report, stands
from rhapsode_operator.tales import Tale
from support.snapshots import opening, pod, told

WALL = 1_795_255_200.4
"""2026-11-21T10:00:00Z, and a bit."""
GIB = 2**30
AT = "2026-11-21T09:00:00.000Z"


def loading(stage: str, percent: float | None = None, eta_s: float | None = None, since: str = AT) -> Tale:
    load = events.LoadState(stage=stage, since=since, percent=percent, eta_s=eta_s)
    return told(opening("loading", load=load))


def holding(*gpus: Gpu, source: str = "nvml", at: str = AT, **facts: Any) -> Tale:
    vram: Any = {"source": source, "observed_at": at, "gpus": list(gpus)}
    return told(opening("ready", vram=events.VramState(**vram), **facts))


def gpu(uuid: str, used: float, total: float = 80, **more: Any) -> Gpu:
    return Gpu(uuid=uuid, name="H100", total_bytes=round(total * GIB), used_bytes=round(used * GIB), **more)


def said(human: str, ts: str) -> Tale:
    return told(opening("ready", narration=events.Narrated(human=human, action="note", ts=ts)))


def both(first: Tale, second: Tale, state: str = "loading") -> list[tuple[Pod, Tale]]:
    return [(pod("w-0", state), first), (pod("w-1", state), second)]


# Load


@pytest.mark.parametrize(
    ("tale", "summary"),
    [
        (loading("loading weights", 41.9), "loading weights 41%"),
        (loading("loading weights", 0), "loading weights 0%"),
        (loading("compiling"), "compiling"),
        (told(opening("ready")), "loaded"),
    ],
)
def test_a_load_is_one_column(tale: Tale, summary: str) -> None:
    made = report([(pod(state="loading"), tale)], WALL).load
    assert made is not None
    assert made.summary == summary


def test_a_load_says_when_it_will_be_done_and_when_it_began() -> None:
    made = report([(pod(state="loading"), loading("loading weights", 41, eta_s=90))], WALL)
    assert made.load == LoadStatus(
        stage="loading weights", percent=41, eta="2026-11-21T10:01:30.000Z", since=AT, summary="loading weights 41%"
    )
    assert [(one.pod, one.load) for one in made.workers] == [("w-0", made.load)]


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (loading("weights", 60), loading("weights", 20), "weights 20%"),
        (loading("weights", 60), told(opening("ready")), "weights 60%"),
        (loading("weights", 60), told(opening("starting")), "weights 60%"),
        (told(opening("ready")), told(opening("ready")), "loaded"),
    ],
)
def test_of_several_loads_the_least_advanced_is_shown(first: Tale, second: Tale, shown: str) -> None:
    made = report(both(first, second), WALL).load
    assert made is not None
    assert made.summary == shown


def test_who_tells_nothing_has_no_load() -> None:
    assert report([(pod(state="loading"), told(opening("starting")))], WALL) == Status()
    assert report([], WALL) == Status()


# Memory


def test_memory_of_all_gpus_of_all_pods_is_one_column() -> None:
    tales = both(holding(gpu("a", 71.3), gpu("b", 70.1)), holding(gpu("c", 1.0), at="2026-11-21T09:59:00.000Z"))
    made = report(tales, WALL).vram
    assert made is not None
    assert (made.source, made.summary, made.observed_at) == ("nvml", "142.4/240 GiB", "2026-11-21T09:59:00.000Z")
    assert (made.used_mib, made.total_mib) == (sum(one.used_mib for one in made.gpus), 3 * 80 * 1024)
    assert [(one.pod, one.uuid) for one in made.gpus] == [("w-0", "a"), ("w-0", "b"), ("w-1", "c")]


def test_a_gpu_is_told_in_mib_and_what_is_not_known_is_absent() -> None:
    known = gpu("a", 1.5, reserved_bytes=600 * 2**20, utilization=0.314)
    made = report([(pod(), holding(known, gpu("b", 1.0)))], WALL).vram
    assert made is not None
    assert (made.gpus[0].used_mib, made.gpus[0].reserved_mib, made.gpus[0].utilization) == (1536, 600, 31)
    assert (made.gpus[1].reserved_mib, made.gpus[1].utilization) == (None, None)


def test_a_gpu_that_is_ill_is_told_of_and_not_counted() -> None:
    ill = gpu("b", 70, healthy=False, trouble="GPU is lost")
    made = report([(pod(), holding(gpu("a", 8), ill))], WALL).vram
    assert made is not None
    assert (made.summary, made.used_mib, made.total_mib) == ("8.0/80 GiB", 8 * 1024, 80 * 1024)
    assert [(one.uuid, one.healthy, one.trouble) for one in made.gpus] == [
        ("a", True, ""),
        ("b", False, "GPU is lost"),
    ]
    fine, bad = msgspec.to_builtins(made.gpus)
    assert "healthy" not in fine
    assert "trouble" not in fine
    assert (bad["healthy"], bad["usedMiB"]) == (False, 70 * 1024), "the last size that was known"
    alone = report([(pod(), holding(ill))], WALL).vram
    assert alone is not None
    assert (alone.source, alone.summary, alone.used_mib, alone.total_mib) == ("nvml", "n/a", None, None)


def test_a_gpu_that_falls_ill_is_written_at_once_and_counts_no_more() -> None:
    well, ill = holding(gpu("a", 40), gpu("b", 8)), holding(gpu("a", 40), gpu("b", 8, healthy=False))
    before, after = gauge([(pod(), well)], 0), gauge([(pod(), ill)], 0)
    assert before.phase != after.phase
    assert (before.used_share, after.used_share) == (30, 50)


@pytest.mark.parametrize(
    ("sources", "shown"), [(("none", "none"), "none"), (("none", "unsupported"), "unsupported")], ids=str
)
def test_memory_that_nobody_measured_is_never_a_number(sources: tuple[str, str], shown: str) -> None:
    made = report(both(holding(source=sources[0]), holding(source=sources[1])), WALL).vram
    assert made is not None
    assert (made.source, made.summary, made.used_mib, made.total_mib, made.gpus) == (shown, "n/a", None, None, [])


# Narration


def test_the_latest_sentence_of_all_pods_is_shown() -> None:
    old, new = said("Loading weights", "2026-11-21T09:00:00.000Z"), said("Warming up", "2026-11-21T09:30:00.000Z")
    latest = NarrationStatus(text="Warming up", since="2026-11-21T09:30:00.000Z")
    assert report(both(old, new), WALL).narration == report(both(new, old), WALL).narration == latest


def test_an_empty_sentence_is_none() -> None:
    assert report([(pod(), said("", AT))], WALL).narration is None


# What the budget looks at


def test_the_gauge_is_about_the_least_advanced_load_and_all_memory() -> None:
    first, second = loading("weights", 60), loading("weights", 20)
    second.vram = events.VramState(source="nvml", observed_at=AT, gpus=[gpu("a", 60), gpu("b", 20)])
    second.load_began, first.load_began = 100, 150
    made = gauge(both(first, second), 400)
    assert (made.percent, made.used_share, made.load_s) == (20, 50, 300)
    assert gauge([], 0).used_share is None


def test_the_gauge_tells_pods_and_phases_and_stages_apart() -> None:
    one, other = loading("weights", 1), loading("compiling", 1)
    made = gauge(both(one, one), 0)
    assert gauge(both(one, other), 0).stage != made.stage
    assert gauge(both(one, told(opening("ready"))), 0).phase != made.phase
    assert gauge(both(one, one)[:1], 0).phase != made.phase
    assert gauge(both(one, loading("weights", 99)), 0)[:2] == made[:2]


# What stands


@pytest.mark.parametrize(
    ("fresh", "same"),
    [
        (holding(gpu("a", 40), at=AT), True),
        (holding(gpu("a", 42), at="2026-11-21T11:00:00.000Z"), True),
        (holding(gpu("a", 50)), False),
        (holding(gpu("b", 40)), False),
        (holding(gpu("a", 40), narration=events.Narrated(human="Resting", ts=AT)), False),
        (loading("weights", 10), False),
    ],
)
def test_what_stands_needs_no_write_while_only_figures_differ_by_less_than_a_step(fresh: Tale, same: bool) -> None:
    standing = report([(pod(), holding(gpu("a", 40)))], WALL)
    assert stands(report([(pod(), fresh)], WALL + 3600), standing) == same

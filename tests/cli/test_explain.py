"""What `kubectl rhapsode explain` shows, to the letter: `golden/*.txt` is what a reviewer reads.

After a change that is meant, `RHAPSODE_WRITE_GOLDEN=1 pytest tests/cli/test_explain.py` writes them anew.
"""

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.errors import CommandError
from rhapsode.kubectl.drawing import NARROW, ago, draw
from rhapsode.kubectl.explaining import explain
from rhapsode.kubectl.facts import MAX_EVENTS, Facts, happenings
from rhapsode_contract.conditions import FAILURES, REASONS

JSON = dict[str, Any]
GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LONG_AGO, SOON, JUST_NOW = "2026-11-19T12:00:00Z", "2026-11-21T11:52:00.250Z", "2026-11-21T11:59:48.000Z"


def worker(phase: str, conditions: list[JSON], pods: list[JSON], spec: JSON | None = None, **status: Any) -> JSON:
    served = {"model": {"source": "hf://Qwen/Qwen3-8B@main"}, "engine": {"name": "TensorRTLLM"}, "replicas": 2}
    found = {
        "observedGeneration": 3, "phase": phase, "replicas": len(pods), "engine": "TensorRTLLM",
        "readyReplicas": sum(one.get("ready", False) for one in pods), "conditions": conditions, "workers": pods,
        "endpoint": "http://choir.music.svc:8080",
    }  # fmt: skip
    metadata = {"name": "choir", "namespace": "music", "generation": 3, "creationTimestamp": LONG_AGO}
    return {"metadata": metadata, "spec": served | (spec or {}), "status": found | status}


def conditions(reason: str, message: str, *, stalled: bool = False, loaded: bool = False) -> list[JSON]:
    """Return the conditions of a worker whose Ready has this reason, as the operator writes them."""
    ready = reason == "AllReplicasReady"
    said = f"{message} {REASONS[reason].remedy}".strip()
    busy = not ready and not stalled and reason != "Suspended"
    return [
        condition("Ready", ready, reason, said),
        condition("Reconciling", busy, reason if busy else "Finished", said if busy else "nothing is left to do"),
        condition("Stalled", stalled, reason if stalled else "NoProblem", said if stalled else "nothing needs a person"),
        condition("ModelLoaded", loaded, "Loaded" if loaded else "NotLoaded", ""),
    ]  # fmt: skip


def condition(kind: str, holds: bool, reason: str, message: str, since: str = SOON) -> JSON:
    found = {"type": kind, "status": str(holds), "reason": reason, "message": message}
    return found | {"lastTransitionTime": since, "observedGeneration": 3}


def event(
    reason: str, message: str, when: str = SOON, about: str = "choir", kind: str = "Normal", **more: Any
) -> JSON:
    said = {"type": kind, "reason": reason, "message": message, "involvedObject": {"name": about}}
    return said | {"eventTime": when} | more


def pod(name: str, *, ready: bool = True, node: str = "gpu-1", **more: Any) -> JSON:
    return {"pod": name, "node": node, "ready": ready} | more


LOADED = {"stage": "loaded", "percent": 100, "summary": "loaded"}
GPU = {"name": "NVIDIA H200", "usedMiB": 73011, "totalMiB": 81920, "healthy": True}
READY = worker(
    "Ready", conditions("AllReplicasReady", "2 of 2 pods serving", loaded=True),
    [pod("choir-0", load=LOADED), pod("choir-1", node="gpu-2", load=LOADED, restarts=1,
         lastExit={"reason": "ContainerOOM", "code": 137, "message": "killed for memory"})],
    load=LOADED, narration={"text": "Ready after 48.2 s: 64 requests at once, VRAM 71.3 of 80 GiB", "since": SOON},
    vram={"source": "nvml", "summary": "142.6/160 GiB", "usedMiB": 146022, "totalMiB": 163840, "observedAt": SOON,
          "gpus": [GPU | {"uuid": "GPU-aa", "pod": "choir-0"}, GPU | {"uuid": "GPU-bb", "pod": "choir-1"}]},
)  # fmt: skip
LOADING = worker(
    "Loading", conditions("Loading", "choir-0 loads its model; status.load says how far"),
    [pod("choir-0", ready=False, load={"stage": "loading weights", "percent": 43, "summary": "loading weights 43%"})],
    {"replicas": 1},
    load={"stage": "loading weights", "percent": 43, "since": SOON, "summary": "loading weights 43%"},
    narration={"text": "Loading weights: 7.1 GB of 16.4 GB, 43 %, about 9 s left", "since": JUST_NOW},
)  # fmt: skip
CUDA_OOM = worker(
    "Failed", conditions("CUDAOutOfMemory", "choir-0: CUDA out of memory: tried to allocate 9.2 GiB, 3.1 GiB are free.", stalled=True),
    [pod("choir-0", ready=False, restarts=4, replaced=1,
         lastExit={"reason": "CUDAOutOfMemory", "code": 1, "message": "torch.OutOfMemoryError: CUDA out of memory"})],
    {"replicas": 1},
    narration={"text": "Could not load qwen3-8b: CUDA out of memory", "since": JUST_NOW},
    vram={"source": "nvml", "summary": "n/a", "observedAt": SOON,
          "gpus": [GPU | {"uuid": "GPU-aa", "pod": "choir-0", "healthy": False, "trouble": "NVML: GPU is lost"}]},
)  # fmt: skip
IMAGE_PULL = worker(
    "Failed", conditions("ImagePull", "choir-0: image registry.example/worker:9 of worker cannot be pulled: not found.", stalled=True),
    [pod("choir-0", ready=False)], {"replicas": 1},
)  # fmt: skip
UNSCHEDULABLE = worker(
    "Degraded",
    conditions("Unschedulable", "choir-1 fits nowhere: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.", stalled=True, loaded=True),
    [pod("choir-0", load=LOADED), pod("choir-1", ready=False, node="")],
)  # fmt: skip
SUSPENDED = worker(
    "Suspended", conditions("Suspended", "no pod is wanted: spec.suspend is true."), [], {"suspend": True}
)
STALLED = worker(
    "Loading", conditions("LoadStalled", "choir-0: loading weights made no progress for 10 min.", stalled=True),
    [pod("choir-0", ready=False, load={"stage": "loading weights", "percent": 12, "summary": "loading weights 12%"})],
    {"replicas": 1}, load={"stage": "loading weights", "percent": 12, "summary": "loading weights 12%"},
)  # fmt: skip
UNSEEN = {"metadata": READY["metadata"], "spec": READY["spec"]}
OUTDATED = worker("Ready", READY["status"]["conditions"], [pod("choir-0")], {"replicas": 1}, observedGeneration=2)
PULLED = [
    event("Pulling", 'Pulling image "registry.example/worker:9"', about="choir-0"),
    event("Failed", "Back-off pulling image", JUST_NOW, "choir-0", "Warning", series={"count": 7, "lastObservedTime": JUST_NOW}),
    event("ImagePull", "choir-0: image registry.example/worker:9 of worker cannot be pulled: not found.", kind="Warning"),
]  # fmt: skip
SITUATIONS: dict[str, tuple[JSON, list[JSON]]] = {
    "ready": (READY, [event("AllReplicasReady", "2 of 2 pods serving")]),
    "loading": (LOADING, [event("LoadStage", "choir-0: loading weights", JUST_NOW)]),
    "cuda-out-of-memory": (CUDA_OOM, [event("Restarted", "choir-0 restarted: CUDAOutOfMemory, exit code 1 (4 in all)")]),
    "image-pull": (IMAGE_PULL, PULLED),
    "unschedulable": (UNSCHEDULABLE, []),
    "suspended": (SUSPENDED, []),
    "load-stalled": (STALLED, []),
    "never-looked-at": (UNSEEN, []),
    "spec-not-seen-yet": (OUTDATED, []),
}  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_screen_is_as_reviewed(name: str) -> None:
    resource, events = SITUATIONS[name]
    shown = draw(explain(resource, events, NOW, " --context=lab -n music"), 100)
    path = GOLDEN / f"explain-{name}.txt"
    if os.environ.get("RHAPSODE_WRITE_GOLDEN"):
        path.write_text(shown)
    assert shown == path.read_text()


def test_every_golden_file_is_a_situation() -> None:
    assert {path.name for path in GOLDEN.glob("explain-*.txt")} == {f"explain-{name}.txt" for name in SITUATIONS}


@pytest.mark.parametrize("width", [1, NARROW, 100, 500])
def test_nothing_but_commands_and_tables_is_wider_than_the_screen(width: int) -> None:
    for resource, events in SITUATIONS.values():
        prose = re.split(r"\n(?:CONDITION|NEXT)", draw(explain(resource, events, NOW), width))[0]
        assert max(map(len, prose.splitlines())) <= max(width, NARROW)


@pytest.mark.parametrize("reason", FAILURES)
def test_every_failure_is_shown_with_its_remedy_once_and_a_way_on(reason: str) -> None:
    broken = worker(
        "Failed",
        conditions(reason, "choir-0: it broke.", stalled=FAILURES[reason].stalls),
        [pod("choir-0", ready=False)],
    )
    facts = explain(broken, [], NOW)
    assert facts.failure is not None
    assert (facts.failure.message, facts.failure.remedy) == ("choir-0: it broke.", FAILURES[reason].remedy)
    assert 1 <= len(facts.next) <= 2
    assert all(command.startswith("kubectl ") and "{" not in command.replace('{"spec"', "") for command in facts.next)


def test_events_that_say_the_same_are_one_and_the_newest_is_last() -> None:
    many = [event("LoadStage", f"stage {number % 20}", f"2026-11-21T11:{number:02}:00Z") for number in range(40)]
    shown = happenings(many, NOW)
    assert len(shown) == MAX_EVENTS
    assert [one.message for one in shown] == [f"stage {number}" for number in range(8, 20)]
    assert {one.count for one in shown} == {2}


def test_an_event_without_any_time_hurts_nobody() -> None:
    assert happenings([{"reason": "Odd"}], NOW)[0].age_s is None


def test_whoever_writes_a_status_or_an_event_cannot_take_over_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;pwned\x07\u202e"
    load = {"stage": evil, "summary": evil}
    broken = worker(
        "Failed",
        conditions("WorkerCrash", f"choir-0: {evil}"),
        [pod("choir-0", node=evil, load=load, lastExit={"reason": evil, "code": 1, "message": evil})],
        {"model": {"source": evil}},
        narration={"text": evil, "since": SOON}, load=load, engine=evil, endpoint=evil,
        vram={"source": "nvml", "summary": evil, "observedAt": SOON,
              "gpus": [GPU | {"uuid": evil, "pod": evil, "healthy": False, "trouble": evil}]},
    )  # fmt: skip
    waiting = worker("Loading", conditions("Loading", evil), [pod(evil)])
    events = [event(evil, evil, kind=evil, about="choir-0") | {"type": evil}]
    for resource in (broken, waiting):
        resource["status"]["conditions"].append(condition("Stalled", False, evil, evil))
        shown = draw(explain(resource, events, NOW), 100)
        assert not set(shown) & set("\x1b\x07\u202e")


def test_json_holds_the_same_facts() -> None:
    facts = explain(*SITUATIONS["ready"], NOW)
    assert msgspec.json.decode(msgspec.json.encode(facts), type=Facts) == facts


def test_a_status_of_another_version_is_no_traceback() -> None:
    with pytest.raises(CommandError, match="another version of Rhapsode"):
        explain(worker("Singing", [], []), [], NOW)


@given(st.one_of(st.none(), st.floats(0, 1e10)))
def test_a_span_is_short(seconds: float | None) -> None:
    assert len(ago(seconds)) <= 12

"""The operator's part of a status: conditions as kstatus reads them, one phase for people, counts, each pod."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

from rhapsode_contract import events
from rhapsode_contract.conditions import CONDITIONS, FAILURES, REASONS
from rhapsode_contract.frames import Gpu
from rhapsode_contract.names import VRAM_NEARLY_FULL, VRAM_RELIEVED
from rhapsode_contract.statuses import Condition, Status
from rhapsode_operator.judging import Verdict, judge
from rhapsode_operator.observing import Pod, read_pod
from rhapsode_operator.planning import Wanted
from rhapsode_operator.projecting import Seen, project, troubled
from rhapsode_operator.tales import Tale
from support.snapshots import COMING, RAN, conditions, container, opening, pod, pod_body, told, worker

EARLY, LATER = "2026-11-21T10:00:00.000Z", "2026-11-21T11:00:00.000Z"


def seen(*pods: Pod, want: int = 2, surge: int = 0, tales: dict[str, Tale] | None = None, **more: Any) -> Seen:
    """Return what a status is made from; `tales` by names of pods."""
    told_of = {one.uid: tale for one in pods for name, tale in (tales or {}).items() if one.name == name}
    verdicts = {one.uid: judge(one, told_of.get(one.uid), 0, 600) for one in pods if not one.deleting}
    made = worker(replicas=want, rollout={"surge": surge})
    return Seen(made, Wanted(want, "a", surge), list(pods), verdicts, told_of, more.pop("failures", {}), **more)


def status(*pods: Pod, old: Status | None = None, moment: str = EARLY, **how: Any) -> Status:
    return project(seen(*pods, **how), moment, old or Status())


def words(made: Status) -> dict[str, str]:
    return {one.type: one.status for one in made.conditions}


def condition(made: Status, kind: str) -> Condition:
    return next(one for one in made.conditions if one.type == kind)


def pods(*texts: str) -> list[Pod]:
    """Return pods that are written `w-ORDINAL HASH STATE`, and `going` when deleted."""
    parts = [text.split() for text in texts]
    return [pod(name, state, pod_hash, deleting=bool(going)) for name, pod_hash, state, *going in parts]


UP = container("relay", RAN, started=True)
CRASHED = container("worker", {"waiting": {"reason": "CrashLoopBackOff"}}, restarts=2, last={"terminated": {"exitCode": 1, "reason": "Error", "message": "bye"}})  # fmt: skip
NO_IMAGE = container("worker", {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}})


def broken(name: str, worker_status: dict[str, Any]) -> Pod:
    states: dict[str, Any] = {"initContainerStatuses": [UP], "containerStatuses": [worker_status]}
    return read_pod(pod_body(name, conditions=conditions(ready=False), **states))


def lost(name: str) -> Pod:
    marked = [one if one["type"] != "Ready" else one | {"status": "False"} for one in conditions(ready=True)]
    return read_pod(pod_body(name, conditions=marked, deleting=True))


class Case(NamedTuple):
    """Pods, and what is said of them all."""

    id: str
    pods: Sequence[Pod]
    phase: str
    reason: str
    busy: bool = True
    stalled: bool = False
    want: int = 2
    surge: int = 0
    said: str = ""


SERVING = pods("w-0 a serving", "w-1 a serving")
CASES = [
    Case("all serve", SERVING, "Ready", "AllReplicasReady", busy=False, said="2 of 2 pods serving"),
    Case("none is made", [], "Pending", "Creating", said="2 pods to be made"),
    Case("one is missing", SERVING[:1], "Pending", "Creating", said="1 pod to be made"),
    Case("a name is not free yet", pods("w-0 a serving", "w-1 a serving going"), "Pending", "Creating", said="when w-1 is gone"),
    Case("no node yet", pods("w-0 a new", "w-1 a new"), "Pending", "Scheduling"),
    Case("an image comes", pods("w-0 a pulling", "w-1 a pulling"), "Starting", "ImagePulling"),
    Case("a worker starts", pods("w-0 a loading", "w-1 a loading"), "Starting", "Starting"),
    Case("one serves, one starts", pods("w-0 a serving", "w-1 a loading"), "Starting", "Starting"),
    Case("a rollout begins", pods("w-0 b serving", "w-1 b serving"), "Updating", "RollingOut", said="0 of 2 pods of the present spec serving"),
    Case("a rollout goes on", pods("w-0 b serving", "w-1 a loading"), "Updating", "RollingOut"),
    Case("a rollout has only its last pod to lose", pods("w-0 a serving", "w-1 a serving", "w-2 b serving going"), "Updating", "RollingOut", said="2 of 2"),
    Case("too many", pods("w-0 a serving", "w-1 a serving", "w-2 a serving"), "Updating", "Scaling", said="1 pod beyond 2"),
    Case("suspended", [], "Suspended", "Suspended", busy=False, want=0),
    Case("to be suspended", SERVING, "Draining", "Draining", want=0, said="2 pods on the way out"),
    Case("nothing can be pulled", [broken("w-0", NO_IMAGE), broken("w-1", NO_IMAGE)], "Failed", "ImagePull", busy=False, stalled=True, said="manifest unknown"),
    Case("one cannot be pulled", [SERVING[0], broken("w-1", NO_IMAGE)], "Degraded", "ImagePull", busy=False, stalled=True),
    Case("one crashes", [SERVING[0], broken("w-1", CRASHED)], "Degraded", "WorkerCrash"),
    Case("all crash", [broken("w-0", CRASHED), broken("w-1", CRASHED)], "Pending", "WorkerCrash"),
    Case("what needs a person comes first", [broken("w-0", CRASHED), broken("w-1", NO_IMAGE)], "Failed", "ImagePull", busy=False, stalled=True),
    Case("a rollout that fails", [pods("w-0 b serving")[0], broken("w-1", NO_IMAGE)], "Degraded", "ImagePull", busy=False, stalled=True),
    Case("a surge pod that fails holds the rollout up", [*pods("w-0 b serving"), broken("w-1", NO_IMAGE)], "Degraded", "ImagePull", busy=False, stalled=True, want=1, surge=1),
    Case("what fails and is outdated does not matter", [*pods("w-0 a serving"), read_pod(pod_body("w-1", "b", conditions=conditions(ready=False), initContainerStatuses=[UP], containerStatuses=[NO_IMAGE]))], "Updating", "RollingOut"),
    Case("a node is gone and keeps a name", [SERVING[0], lost("w-1")], "Degraded", "NodeLost", said="node n1 of w-1"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace(" ", "-"))
def test_what_is_said_when(case: Case) -> None:
    made = status(*case.pods, want=case.want, surge=case.surge)
    ready = condition(made, "Ready")
    assert (made.phase, ready.reason) == (case.phase, case.reason), ready.message
    assert case.said in ready.message
    assert words(made) | {"ModelLoaded": "", "VRAMPressure": ""} == {
        "Ready": str(case.reason == "AllReplicasReady"),
        "Reconciling": str(case.busy),
        "Stalled": str(case.stalled),
        "ModelLoaded": "",
        "VRAMPressure": "",
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace(" ", "-"))
def test_every_condition_is_there_and_its_reason_documented(case: Case) -> None:
    made = status(*case.pods, want=case.want, surge=case.surge)
    assert [one.type for one in made.conditions] == list(CONDITIONS)
    for one in made.conditions:
        assert one.reason in REASONS
        assert one.message
        assert (one.observed_generation, one.last_transition_time) == (1, EARLY)
    loaded = condition(made, "ModelLoaded")
    assert loaded.status == str(any(one.ready for one in case.pods))
    assert made.observed_generation == 1


def test_every_failure_has_a_phase_and_only_those_that_need_a_person_stall() -> None:
    for reason in FAILURES:
        trouble = Verdict(reason, "something")
        bad, mixed = status(trouble=trouble, want=1), status(*pods("w-0 a serving"), trouble=trouble, want=1)
        assert words(bad)["Stalled"] == str(FAILURES[reason].stalls)
        assert words(bad)["Reconciling"] == str(not FAILURES[reason].stalls)
        assert bad.phase == ("Failed" if FAILURES[reason].stalls else "Pending")
        assert mixed.phase == "Degraded"


def test_a_first_start_of_two_is_no_update_when_one_serves_before_the_other() -> None:
    tales = {"w-1": told(opening("loading"))}
    made = [status(*pods(first, "w-1 a loading"), tales=tales) for first in ("w-0 a loading", "w-0 a serving")]
    assert [one.phase for one in made] == ["Starting", "Loading"]


# When it changed


def test_a_transition_keeps_its_time_until_the_word_changes() -> None:
    loading = status(*pods("w-0 a pulling"), want=1)
    still = status(*pods("w-0 a loading"), want=1, old=loading, moment=LATER)
    assert condition(still, "Ready").reason != condition(loading, "Ready").reason
    assert {one.last_transition_time for one in still.conditions} == {EARLY}
    serving = status(*pods("w-0 a serving"), want=1, old=still, moment=LATER)
    changed = {one.type for one in serving.conditions if one.last_transition_time == LATER}
    assert changed == {"Ready", "Reconciling", "ModelLoaded"}


def test_the_same_again_is_the_same_status() -> None:
    first = status(*SERVING)
    assert status(*SERVING, old=first, moment=LATER) == first
    assert status(*reversed(SERVING), old=first, moment=LATER) == first


# Counts and pods


def test_counts_and_pods_are_those_that_there_are() -> None:
    made = status(*pods("w-0 b serving", "w-1 a serving", "w-2 a loading going"), failures={"w-1": 3})
    assert (made.replicas, made.ready_replicas, made.updated_replicas) == (3, 2, 1)
    assert [(one.pod, one.ready, one.node, one.replaced) for one in made.workers] == [
        ("w-0", True, "n1", 0), ("w-1", True, "n1", 3), ("w-2", False, "n1", 0),
    ]  # fmt: skip
    assert made.selector == "rhapsode.dev/worker=w"
    assert made.endpoint == "http://w.ns.svc:8080"
    assert (made.engine, made.load, made.vram, made.narration) == ("OpenVINO", None, None, None)


def test_a_pod_says_how_it_ended_last() -> None:
    (made,) = status(broken("w-0", CRASHED), want=1).workers
    assert made.last_exit is not None
    assert (made.restarts, made.last_exit.reason, made.last_exit.code, made.last_exit.message) == (
        2,
        "Error",
        1,
        "bye",
    )


# Memory of GPUs


def gpu(uuid: str, share: float, **more: Any) -> Gpu:
    total = 2**36
    return Gpu(uuid=uuid, name="H200", total_bytes=total, used_bytes=round(total * share), **more)


def holding(*gpus: Gpu, source: str = "nvml") -> Tale:
    vram: Any = {"source": source, "observed_at": EARLY, "gpus": list(gpus)}
    return told(opening("ready", vram=events.VramState(**vram)))


@pytest.mark.parametrize(
    ("gpus", "before", "word", "reason"),
    [
        ([gpu("a", 0.5)], "", "False", "VRAMLow"),
        ([gpu("a", 0.5), gpu("b", VRAM_NEARLY_FULL + 0.001)], "", "True", "VRAMHigh"),
        ([gpu("a", 0.9, reserved_bytes=2**36 // 12)], "", "True", "VRAMHigh"),
        ([gpu("a", VRAM_RELIEVED + 0.001)], "False", "False", "VRAMLow"),
        ([gpu("a", VRAM_RELIEVED + 0.001)], "True", "True", "VRAMHigh"),
        ([gpu("a", VRAM_RELIEVED - 0.001)], "True", "False", "VRAMLow"),
        ([gpu("a", 0.5), gpu("b", 0.99, healthy=False, trouble="lost")], "", "False", "VRAMLow"),
        ([], "", "Unknown", "VRAMUnknown"),
    ],
)
def test_pressure_begins_and_ends_at_different_shares(gpus: list[Gpu], before: str, word: str, reason: str) -> None:
    old = Status(
        conditions=[Condition(type="VRAMPressure", status="True", reason="VRAMHigh")] if before == "True" else []
    )
    made = condition(status(*pods("w-0 a serving"), want=1, old=old, tales={"w-0": holding(*gpus)}), "VRAMPressure")
    assert (made.status, made.reason) == (word, reason)
    assert word != "True" or gpus[-1].uuid in made.message


def test_pressure_that_was_told_to_an_operator_before_us_stands_until_a_relay_answers() -> None:
    old = Status(
        conditions=[Condition(type="VRAMPressure", status="True", reason="VRAMHigh", message="GPU a is full")]
    )
    made = condition(status(*SERVING, old=old, tales={"w-0": Tale(since=0.0, lost_at=0.0)}), "VRAMPressure")
    assert (made.status, made.reason, made.message) == ("True", "VRAMHigh", "GPU a is full")
    answered = condition(status(*SERVING, old=old, tales={"w-0": holding(source="none")}), "VRAMPressure")
    assert answered.reason == "VRAMUnknown"


def test_what_nobody_measured_is_told_apart_from_what_nobody_told() -> None:
    silent = condition(status(*SERVING), "VRAMPressure")
    none = condition(status(*SERVING, tales={"w-0": holding(source="none")}), "VRAMPressure")
    assert "no worker has told" in silent.message
    assert "no NVIDIA driver" in none.message


# A resource that cannot be read


def test_a_resource_that_cannot_be_read_keeps_what_was_so() -> None:
    before = status(*SERVING)
    made = troubled(worker(), before, Verdict("InvalidSpec", "spec.model: required"), LATER)
    assert (made.phase, made.ready_replicas, made.workers) == ("Failed", 2, before.workers)
    assert words(made) == words(before) | {"Ready": "False", "Reconciling": "False", "Stalled": "True"}
    assert condition(made, "Ready").last_transition_time == LATER
    assert condition(made, "ModelLoaded") == condition(before, "ModelLoaded")
    again = troubled(worker(), made, Verdict("InvalidSpec", "spec.model: required"), "2026-11-21T12:00:00.000Z")
    assert msgspec.to_builtins(again) == msgspec.to_builtins(made)


def test_a_pod_that_waits_has_no_exit() -> None:
    (made,) = status(broken("w-0", container("worker", COMING)), want=1).workers
    assert made.last_exit is None

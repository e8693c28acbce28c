"""What is done with pods, snapshot by snapshot. A pod is written `w-ORDINAL HASH STATE`, and `going` when deleted.

| the pods | what is decided |
|---|---|
| missing, gone, deleted by somebody | made, when the name is free and a GPU may be |
| failed | deleted after a pause that grows |
| outdated | at once if they serve nobody; else drained, one at a time, while the others serve |
| beyond the replicas | drained together |
"""

from collections.abc import Mapping
from typing import NamedTuple

import pytest

from rhapsode_operator.observing import Pod
from rhapsode_operator.planning import NOTHING, DrainSeen, Memory, Plan, Wanted, backoff_s, plan
from support.snapshots import pod


class Case(NamedTuple):
    """One snapshot and what is to be done. `memory` by names of pods."""

    id: str
    wanted: Wanted
    pods: tuple[str, ...]
    todo: str
    drains: Mapping[str, DrainSeen] = NOTHING.drains
    failed_for_s: Mapping[str, float] = NOTHING.failed_for_s
    failures: Mapping[str, int] = NOTHING.failures
    again_s: float | None = None


def want(replicas: int, pod_hash: str = "b", surge: int = 0, *, wait: bool = True) -> Wanted:
    return Wanted(replicas, pod_hash, surge, wait, timeout_s=300.0)


def seen(text: str) -> Pod:
    name, pod_hash, state, *going = text.split()
    return pod(name, state, pod_hash, uid=name, deleting=bool(going))


def words(found: Plan) -> str:
    """Return a plan as one line, its parts in order."""
    made = [f"make {ordinal}" for ordinal in found.create]
    drained = [f"drain {removal.pod.name}" for removal in found.drain]
    return ", ".join(made + drained + sorted(f"delete {removal.pod.name}" for removal in found.delete))


BUSY, IDLE, LATE, DEAF = DrainSeen(3, 10), DrainSeen(0, 10), DrainSeen(3, 300), DrainSeen(None, 300)
CASES = [
    # making
    Case("all pods are made at once", want(3), (), "make 0, make 1, make 2"),
    Case("only what is missing is made", want(3), ("w-1 b serving",), "make 0, make 2"),
    Case("what is as wanted is left alone", want(2), ("w-0 b serving", "w-1 b loading"), ""),
    Case("a pod that goes keeps its name", want(1), ("w-0 b serving going",), ""),
    Case("a pod that goes keeps its GPU", want(1), ("w-1 b serving going",), ""),
    Case("a failed pod that goes keeps its name and no GPU", want(2), ("w-0 b failed going",), "make 1"),
    Case("nothing is made for a suspended worker", want(0), (), ""),
    Case("nothing is made beyond the replicas when no rollout asks for it", want(1, surge=2), ("w-0 b loading",), ""),
    # failing
    Case("a failed pod stays for a pause", want(1), ("w-0 b failed",), "", failed_for_s={"w-0": 4.0}, again_s=6.0),
    Case("a failed pod goes after it", want(1), ("w-0 b failed",), "delete w-0", failed_for_s={"w-0": 10.0}),
    Case("the pause grows", want(1), ("w-0 b failed",), "", failed_for_s={"w-0": 70.0}, failures={"w-0": 3}, again_s=10.0),
    Case("a failed pod of an outdated spec goes at once", want(1), ("w-0 a failed",), "delete w-0"),
    Case("a failed pod beyond the replicas goes at once", want(1), ("w-0 b serving", "w-1 b failed"), "delete w-1"),
    Case("other pods are made while a failed one pauses", want(2), ("w-0 b failed",), "make 1", again_s=10.0),
    # rollout
    Case("outdated pods that serve nobody go at once", want(3), ("w-0 a new", "w-1 a pulling", "w-2 a loading"), "delete w-0, delete w-1, delete w-2"),
    Case("the last of those that serve is drained first", want(2), ("w-0 a serving", "w-1 a serving"), "drain w-1", again_s=2.0),
    Case("the drain goes on while requests run", want(2), ("w-0 a serving", "w-1 a unready"), "drain w-1", drains={"w-1": BUSY}, again_s=2.0),
    Case("an idle pod is deleted", want(2), ("w-0 a serving", "w-1 a unready"), "delete w-1", drains={"w-1": IDLE}),
    Case("one that is not idle in time is deleted", want(2), ("w-0 a serving", "w-1 a unready"), "delete w-1", drains={"w-1": LATE}),
    Case("one that cannot be asked is deleted in time", want(2), ("w-0 a serving", "w-1 a unready"), "delete w-1", drains={"w-1": DEAF}),
    Case("nobody waits who does not want to", want(2, wait=False), ("w-0 a serving", "w-1 a serving"), "delete w-1"),
    Case("the next one waits until the first is gone", want(2), ("w-0 a serving", "w-1 a serving going"), ""),
    Case("the next one waits until the new one serves", want(2), ("w-0 a serving", "w-1 b loading"), ""),
    Case("a new spec that fails stops the rollout", want(2), ("w-0 a serving", "w-1 b failed"), "", again_s=10.0),
    Case("a new spec that crashes stops the rollout", want(3), ("w-0 a serving", "w-1 a serving", "w-2 b loading"), ""),
    Case("the next one goes when the new one serves", want(2), ("w-0 a serving", "w-1 b serving"), "drain w-0", again_s=2.0),
    Case("one that does not serve goes before those that do", want(2), ("w-0 a unready", "w-1 a serving"), "drain w-0", again_s=2.0),
    Case("pods that all do not serve are replaced all the same", want(2), ("w-0 a unready", "w-1 a unready"), "drain w-1", again_s=2.0),
    Case("a single pod is replaced", want(1), ("w-0 a serving",), "drain w-0", again_s=2.0),
    Case("a drain for a spec that was taken back is ended: the pod takes nothing new", want(2, "a"), ("w-0 a serving", "w-1 a unready"), "drain w-1", drains={"w-1": BUSY}, again_s=2.0),
    # surge
    Case("with a surge a new pod comes first", want(1, surge=1), ("w-0 a serving",), "make 1"),
    Case("and is waited for", want(1, surge=1), ("w-0 a serving", "w-1 b loading"), ""),
    Case("then the old one is drained", want(1, surge=1), ("w-0 a serving", "w-1 b serving"), "drain w-0", again_s=2.0),
    Case("the one beyond stays while the old one goes", want(1, surge=1), ("w-0 a serving going", "w-1 b serving"), ""),
    Case("the one beyond stays while the name is empty", want(1, surge=1), ("w-1 b serving",), "make 0"),
    Case("the one beyond stays while the new one loads", want(1, surge=1), ("w-0 b loading", "w-1 b serving"), ""),
    Case("the one beyond goes when all serve", want(1, surge=1), ("w-0 b serving", "w-1 b serving"), "drain w-1", again_s=2.0),
    Case("an outdated one beyond serves until another does", want(1, "c", surge=1), ("w-0 c loading", "w-1 b serving"), ""),
    Case("a surge is no reason to keep pods of a suspended worker", want(0, surge=1), ("w-0 b serving",), "drain w-0", again_s=2.0),
    # scaling
    Case("pods beyond the replicas drain together", want(1), ("w-0 b serving", "w-1 b serving", "w-2 b serving"), "drain w-1, drain w-2", again_s=2.0),
    Case("pods beyond the replicas that serve nobody go at once", want(1), ("w-0 b serving", "w-1 b loading"), "delete w-1"),
    Case("a suspended worker drains all its pods", want(0), ("w-0 b serving", "w-1 b loading"), "drain w-0, delete w-1", again_s=2.0),
    Case("a pod without an ordinal is nobody's, and removed once", want(1), ("w-0 b serving", "w-x a loading"), "delete w-x"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace(" ", "-"))
def test_what_is_done_with(case: Case) -> None:
    memory = Memory(case.drains, case.failed_for_s, case.failures)
    found = plan(case.wanted, [seen(text) for text in case.pods], memory)
    assert words(found) == case.todo
    assert found.again_s == case.again_s


def test_pauses_double_from_ten_seconds_to_five_minutes() -> None:
    assert [backoff_s(failures) for failures in (0, 1, 2, 3, 4, 5, 6, 10_000)] == [10, 20, 40, 80, 160, 300, 300, 300]


def test_each_removal_says_why() -> None:
    pods = [seen(text) for text in ("w-0 a serving", "w-1 b serving", "w-2 b serving")]
    found = plan(want(2), pods, NOTHING)
    assert [(one.pod.name, one.why) for one in found.drain] == [
        ("w-2", "beyond the wanted replicas"),
        ("w-0", "its spec is outdated"),
    ]

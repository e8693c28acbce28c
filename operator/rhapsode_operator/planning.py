"""Decide what is to be done with the pods of one resource. Called by `reconciling`. Pure: no client, no clock.

Invariants, held by `tests/operator/test_planning.py`: planning the same state twice gives the same plan; a name is
never used again while a pod has it; no pod is made when as many as may hold a GPU exist; a pod that serves is drained
before it goes, and of those that serve one goes at a time.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rhapsode_operator.observing import Pod

FIRST_BACKOFF_S, LAST_BACKOFF_S = 10.0, 300.0
DRAIN_LOOK_S = 2.0
"""How often a draining pod is looked at."""
OUTDATED = "its spec is outdated"


class Wanted(NamedTuple):
    """What the spec asks for. `replicas` is 0 while it is suspended."""

    replicas: int
    pod_hash: str
    surge: int = 0
    wait_for_idle: bool = True
    timeout_s: float = 300.0


class DrainSeen(NamedTuple):
    """How far a drain is: requests still in hand, None if the relay cannot be asked; seconds since it began."""

    in_hand: int | None
    for_s: float


class Memory(NamedTuple):
    """What the cluster's objects do not say: drains by uid; of failed pods the seconds since they were seen so (by
    uid), and how often their name failed before.
    """

    drains: Mapping[str, DrainSeen]
    failed_for_s: Mapping[str, float]
    failures: Mapping[str, int]


NOTHING = Memory({}, {}, {})


class Removal(NamedTuple):
    """A pod that goes, and why."""

    pod: Pod
    why: str


class Plan(NamedTuple):
    """What to do now. `again_s`: look again after so long, even if nothing happens."""

    create: tuple[int, ...] = ()
    drain: tuple[Removal, ...] = ()
    delete: tuple[Removal, ...] = ()
    again_s: float | None = None


def plan(wanted: Wanted, pods: Sequence[Pod], memory: Memory = NOTHING) -> Plan:
    """Return what brings the pods nearer to what is wanted."""
    living = [pod for pod in pods if not pod.deleting]
    kept = _kept(wanted, living)
    stale = [pod for pod in living if pod.hash != wanted.pod_hash and 0 <= pod.ordinal < kept]
    limit = wanted.replicas + min(wanted.surge, sum(pod.has_served for pod in stale))
    leaving = [Removal(pod, "beyond the wanted replicas") for pod in living if not 0 <= pod.ordinal < kept]
    leaving += _outdated(wanted, pods, stale, memory)
    leaving += _half_drained(living, leaving, memory)
    removals, waits = _failed(living, leaving, memory)
    drain, delete = _by_drain(wanted, leaving, memory)
    create = _missing(limit, wanted, pods)
    if drain:
        waits.append(DRAIN_LOOK_S)
    return Plan(create, drain, (*delete, *removals), min(waits, default=None))


def _kept(wanted: Wanted, living: Iterable[Pod]) -> int:
    """Return the ordinal from which on pods go: those of a surge stay until every wanted one serves."""
    serving = sum(pod.ready and pod.hash == wanted.pod_hash and 0 <= pod.ordinal < wanted.replicas for pod in living)
    return wanted.replicas if serving == wanted.replicas else wanted.replicas + wanted.surge


def _half_drained(living: Iterable[Pod], leaving: Sequence[Removal], memory: Memory) -> list[Removal]:
    """Return the pods that were told to drain for another spec than the present: they take nothing new any more."""
    known = {removal.pod.uid for removal in leaving}
    return [
        Removal(pod, "it takes nothing new") for pod in living if pod.uid in memory.drains and pod.uid not in known
    ]


def _failed(living: Iterable[Pod], leaving: Iterable[Removal], memory: Memory) -> tuple[list[Removal], list[float]]:
    """Return the failed pods whose pause is over, and how long the others have to wait."""
    removals, waits = [], []
    gone = {removal.pod.uid for removal in leaving}
    for pod in living:
        if not pod.over or pod.uid in gone:
            continue
        left_s = backoff_s(memory.failures.get(pod.name, 0)) - memory.failed_for_s.get(pod.uid, 0.0)
        if left_s <= 0:
            removals.append(Removal(pod, "it failed"))
        else:
            waits.append(left_s)
    return removals, waits


def backoff_s(failures: int) -> float:
    """Return how long a failed pod stays, by how often its name failed before: 10 s, doubling, 5 min at most."""
    return float(min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures, 10)))


def _outdated(wanted: Wanted, pods: Sequence[Pod], stale: Sequence[Pod], memory: Memory) -> list[Removal]:
    """Return outdated pods that may go: those that serve nobody at once, the others one at a time."""
    idle = [pod for pod in stale if not pod.has_served]
    serving = sorted(
        (pod for pod in stale if pod.has_served),
        key=lambda pod: (pod.uid in memory.drains, not pod.ready, pod.ordinal),
        reverse=True,
    )
    chosen = serving[:1] if serving and _may_go(wanted, pods, serving[0], memory) else []
    return [Removal(pod, OUTDATED) for pod in (*idle, *chosen)]


def _may_go(wanted: Wanted, pods: Sequence[Pod], candidate: Pod, memory: Memory) -> bool:
    if candidate.uid in memory.drains:
        return True
    others = [pod for pod in pods if pod.uid != candidate.uid]
    if any(pod.deleting for pod in others):
        return False
    needed = wanted.replicas if wanted.surge else wanted.replicas - 1
    return not candidate.ready or sum(pod.ready for pod in others) >= needed


def _by_drain(
    wanted: Wanted, leaving: Iterable[Removal], memory: Memory
) -> tuple[tuple[Removal, ...], tuple[Removal, ...]]:
    """Part the leaving pods into those that drain first and those that go now."""
    drain: list[Removal] = []
    delete: list[Removal] = []
    for removal in leaving:
        waits = wanted.wait_for_idle and not removal.pod.over and removal.pod.has_served
        (drain if waits and not _drained(removal.pod, wanted, memory) else delete).append(removal)
    return tuple(drain), tuple(delete)


def _drained(pod: Pod, wanted: Wanted, memory: Memory) -> bool:
    seen = memory.drains.get(pod.uid)
    return seen is not None and (seen.in_hand == 0 or seen.for_s >= wanted.timeout_s)


def _missing(limit: int, wanted: Wanted, pods: Sequence[Pod]) -> tuple[int, ...]:
    """Return the ordinals to make: names that nobody has, as far as there may be pods with a GPU."""
    taken = {pod.ordinal for pod in pods}
    holding = sum(not pod.over for pod in pods)
    room = max(0, wanted.replicas + wanted.surge - holding) if limit else 0
    return tuple(ordinal for ordinal in range(limit) if ordinal not in taken)[:room]

"""What the operator remembers of one resource between two looks. All of it may be lost: a new operator starts from
the cluster's objects and from `status.workers[].replaced`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rhapsode_contract.names import OUTGOING
from rhapsode_contract.statuses import Status
from rhapsode_operator.budgeting import Written
from rhapsode_operator.building import Blueprint
from rhapsode_operator.errors import OperatorError
from rhapsode_operator.narrating import STILL_S, Teller
from rhapsode_operator.observing import Pod, Worker
from rhapsode_operator.planning import DrainSeen, Memory
from rhapsode_operator.queueing import Key
from rhapsode_operator.tales import Tale

MAX_STAGES = 12
"""Stages of one load that are announced."""
ECHO_S = 5.0
"""How long our own write may take to come back through the watch."""


class Taken(NamedTuple):
    """A name that another object has: not tried again before a moment, unless the spec changes."""

    generation: int
    until: float
    error: OperatorError


class Stages(NamedTuple):
    """The stages of one load that were announced; `load` counts a pod's loads by its restarts."""

    load: int
    said: set[str]


@dataclass(kw_only=True)
class Case:
    """One resource. Moments are seconds of the monotonic clock."""

    uid: str
    failures: dict[str, int]
    """By the name of the pod: how often it failed since it was last ready."""
    failed_at: dict[str, float] = field(default_factory=dict)
    """By uid: since when a pod is seen failed."""
    drains: dict[str, DrainSeen] = field(default_factory=dict)
    drain_began: dict[str, float] = field(default_factory=dict)
    outdated: set[str] = field(default_factory=set)
    """By uid: pods whose relays know that a new version replaces them."""
    tellers: dict[str, Teller] = field(default_factory=dict)
    deaf: dict[str, float] = field(default_factory=dict)
    """By uid: until when a relay that did not hear us is told nothing."""
    removed: dict[str, float] = field(default_factory=dict)
    """By uid: when we deleted a pod that the watch may still show alive."""
    stages: dict[str, Stages] = field(default_factory=dict)
    """By uid: the stages of its latest load that were announced."""
    objects: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By kind and name: for which generation, and when, a Service or the budget was applied."""
    taken: dict[str, Taken] = field(default_factory=dict)
    """By kind and name: what we need and another has."""
    status: Status | None = None
    """What we wrote last, and when."""
    status_at: float = 0.0
    report: Written | None = None
    reported: Status | None = None
    _hash: tuple[int, str, str] | None = None

    @classmethod
    def of(cls, worker: Worker) -> "Case":
        """Return a case that begins with what the status keeps."""
        return cls(uid=worker.uid, failures={one.pod: one.replaced for one in worker.status.workers if one.replaced})

    def pod_hash(self, worker: Worker, blueprint: Blueprint) -> str:
        """Return the hash of the pods that the spec asks for."""
        key = (worker.generation, worker.restarted_at)
        if self._hash is None or self._hash[:2] != key:
            self._hash = (*key, blueprint.pod_hash())
        return self._hash[2]

    def look(self, pods: Sequence[Pod], now: float) -> Memory:
        """Note what can be seen of the pods, forget those that are gone, and return the memory for a plan."""
        known = {pod.uid for pod in pods}
        for remembered in (
            self.failed_at, self.drains, self.drain_began, self.tellers, self.deaf, self.stages, self.removed
        ):  # fmt: skip
            for uid in set(remembered) - known:
                del remembered[uid]
        self.outdated &= known
        for pod in pods:
            if pod.over:
                self.failed_at.setdefault(pod.uid, now)
            elif pod.ready:
                self.failures.pop(pod.name, None)
        return Memory(self.drains, {uid: now - at for uid, at in self.failed_at.items()}, self.failures)

    def may_remove(self, pod: Pod, now: float) -> bool:
        """Return whether to delete a pod: not again while the watch has not told of the first time."""
        at = self.removed.get(pod.uid)
        return at is None or now - at > ECHO_S

    def note_removal(self, pod: Pod, now: float) -> None:
        """Note that a pod is deleted, and that it failed if it did."""
        if pod.over and pod.uid not in self.removed:
            self.failures[pod.name] = self.failures.get(pod.name, 0) + 1
        self.removed[pod.uid] = now

    def may_announce(self, pod: Pod, stage: str) -> bool:
        """Return whether a stage of a pod's load is news, and note it. An engine may name a new one each second."""
        known = self.stages.get(pod.uid)
        if known is None or known.load != pod.restarts:
            known = self.stages[pod.uid] = Stages(pod.restarts, set())
        if stage in known.said or len(known.said) >= MAX_STAGES:
            return False
        known.said.add(stage)
        return True

    def note_deaf(self, pod: Pod, now: float) -> None:
        """Note that a relay did not hear us. It is left alone for a while: what it did hear of it wakes us, too."""
        self.deaf[pod.uid] = now + STILL_S

    def is_deaf(self, pod: Pod, now: float) -> bool:
        """Return whether a relay did not hear us lately."""
        return now < self.deaf.get(pod.uid, now)

    def deaf_for(self, now: float) -> Iterator[float]:
        """Yield how long each relay that did not hear us is still left alone."""
        return (until - now for until in self.deaf.values() if until > now)

    def is_taken(self, what: str, generation: int, now: float) -> bool:
        """Return whether a name was lately another's."""
        return self.taken_names(generation, now).keys() >= {what}

    def taken_names(self, generation: int, now: float) -> dict[str, Taken]:
        """Return the names that were lately another's."""
        return {what: one for what, one in self.taken.items() if one.generation == generation and now < one.until}

    def find_drains(self, pods: Sequence[Pod], tales: Mapping[str, Tale], now: float) -> None:
        """Note the pods whose relays an operator before us told to drain for good: they never serve again."""
        for pod in pods:
            tale = tales.get(pod.uid)
            if tale is not None and (tale.phase, tale.reason) == ("draining", OUTGOING) and not pod.deleting:
                if pod.uid not in self.drain_began:  # who told it to drain told it why, too
                    self.outdated.add(pod.uid)
                self.drain_began.setdefault(pod.uid, now)
                self.drains.setdefault(pod.uid, DrainSeen(None, 0.0))

    def drained(self, pod: Pod, seen: DrainSeen | None, now: float) -> None:
        """Note how far a drain is. A relay that cannot be asked is waited for as long as one that is busy.

        The relay knows of a drain that an operator before us began; we know of one that it began before it crashed.
        """
        for_s = now - self.drain_began.setdefault(pod.uid, now)
        self.drains[pod.uid] = DrainSeen(seen.in_hand, max(seen.for_s, for_s)) if seen else DrainSeen(None, for_s)

    def latest_status(self, worker: Worker, now: float) -> Status:
        """Return what stands in the cluster: what the watch told, or what we wrote and it has not told yet."""
        if self.status is not None and now - self.status_at < ECHO_S:
            return self.status
        return worker.status


class Phases:
    """How many resources are in each phase."""

    def __init__(self, tell: Callable[[dict[str, int]], None]) -> None:
        self._tell = tell
        self._phases: dict[Key, str] = {}
        self._counts: Counter[str] = Counter()

    def note(self, key: Key, phase: str) -> None:
        """A resource is in a phase."""
        if self._phases.get(key) != phase:
            self._drop(key)
            self._phases[key] = phase
            self._counts[phase] += 1
            self._tell(+self._counts)

    def forget(self, key: Key) -> None:
        """A resource is no more."""
        if key in self._phases:
            self._drop(key)
            self._tell(+self._counts)

    def _drop(self, key: Key) -> None:
        if phase := self._phases.pop(key, None):
            self._counts[phase] -= 1

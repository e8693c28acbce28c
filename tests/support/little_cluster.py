"""A cluster of one resource, in memory: pods with their states, a clock, and an operator that plans and acts.

It keeps the API server's promises (a name exists once, deletion is by uid) and the kubelet's (a pod that is deleted
goes later, one that drains never serves again). Used by the properties of planning.
"""

from dataclasses import dataclass, field

from rhapsode_contract.names import OUTGOING
from rhapsode_operator.cases import Case
from rhapsode_operator.observing import Pod
from rhapsode_operator.planning import DrainSeen, Plan, Wanted, plan
from rhapsode_operator.tales import Tale
from support.snapshots import opening, pod, told

NEXT = {"new": "pulling", "pulling": "loading", "loading": "serving"}


@dataclass
class LivePod:
    """One pod as it really is."""

    name: str
    uid: str
    hash: str
    state: str = "new"
    going: bool = False
    drained_at: float | None = None
    in_hand: int = 1

    @property
    def holds(self) -> bool:
        return self.state != "failed"

    @property
    def serves(self) -> bool:
        return self.state == "serving" and not self.going

    def seen(self) -> Pod:
        return pod(self.name, self.state, self.hash, uid=self.uid, deleting=self.going)

    def tale(self) -> Tale:
        draining = self.drained_at is not None
        return told(opening("draining" if draining else "ready", reason=OUTGOING if draining else ""))


@dataclass
class LittleCluster:
    """Everything that there is. `broken`: specs whose pods never serve."""

    wanted: Wanted
    now: float = 1000.0
    pods: dict[str, LivePod] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    made: list[tuple[float, str]] = field(default_factory=list)
    undrained: list[str] = field(default_factory=list)
    """Names of pods that were deleted although they had requests in hand and time left."""
    deaf: bool = False
    """Whether no relay can be asked."""
    case: Case = field(default_factory=lambda: Case(uid="u", failures={}))

    # What the operator does

    def look(self) -> list[Pod]:
        return [one.seen() for one in self.pods.values()]

    def step(self, seen: list[Pod] | None = None, steps: int = 99) -> Plan:
        """Plan from what was seen, by default just now, and carry out so many of its steps."""
        pods = self.look() if seen is None else seen
        self.case.find_drains(pods, {one.uid: one.tale() for one in self.pods.values()}, self.now)
        found = plan(self.wanted, pods, self.case.look(pods, self.now))
        check_plan(self.wanted, pods, found)
        for removal in (*found.delete, *found.drain)[:steps]:
            (self._delete if removal in found.delete else self._drain)(removal.pod)
        for ordinal in found.create[: max(0, steps - len(found.delete) - len(found.drain))]:
            self._make(ordinal)
        return found

    def restart(self, kept: dict[str, int] | None = None) -> None:
        """Lose all memory but what the status keeps."""
        self.case = Case(uid="u", failures=dict(kept or {}))

    def _make(self, ordinal: int) -> None:
        name = f"w-{ordinal}"
        if name not in self.pods:
            self.pods[name] = LivePod(name, f"{name}/{len(self.made)}", self.wanted.pod_hash)
            self.made.append((self.now, name))

    def _delete(self, seen: Pod) -> None:
        one = self.pods.get(seen.name)
        if not self.case.may_remove(seen, self.now) or one is None or one.uid != seen.uid:
            return
        self.case.note_removal(seen, self.now)
        if self.wanted.wait_for_idle and self._has_time(one):
            self.undrained.append(one.name)
        if one.state in ("failed", "new"):
            del self.pods[one.name]  # no kubelet has to agree
        else:
            one.going = True

    def _has_time(self, one: LivePod) -> bool:
        """Whether a pod has requests in hand and may still finish them."""
        drains_for = 0.0 if one.drained_at is None else self.now - one.drained_at
        return one.state in ("serving", "unready") and one.in_hand > 0 and drains_for < self.wanted.timeout_s

    def _drain(self, seen: Pod) -> None:
        one = self.pods.get(seen.name)
        if one is None or one.uid != seen.uid or self.deaf:
            return self.case.drained(seen, None, self.now)
        if one.drained_at is None:
            one.drained_at = self.now
        one.state = "unready" if one.state == "serving" else one.state
        return self.case.drained(seen, DrainSeen(one.in_hand, self.now - one.drained_at), self.now)

    # What the rest of the world does

    def advance(self, name: str) -> None:
        """A pod gets one step further: to serving, or away."""
        one = self.pods[name]
        if one.going:
            del self.pods[name]
        elif one.drained_at is not None:
            one.in_hand = 0
        elif one.state == "loading" and one.hash in self.broken:
            one.state = "failed"
        elif one.state == "unready":
            one.state = "serving"
        else:
            one.state = NEXT.get(one.state, one.state)

    def fail(self, name: str) -> None:
        self.pods[name].state = "failed"

    def delete(self, name: str) -> None:
        """Somebody deletes a pod."""
        self.pods[name].going = True

    def settle(self, rounds: int = 200) -> None:
        """Let everything go well for so long."""
        self.deaf = False
        for _ in range(rounds):
            self.step()
            for name in list(self.pods):
                self.advance(name)
            self.now += 10

    # What can be said of it

    @property
    def serving(self) -> int:
        return sum(one.serves for one in self.pods.values())

    @property
    def holding(self) -> int:
        return sum(one.holds for one in self.pods.values())

    @property
    def names(self) -> list[str]:
        return sorted(f"{one.name} {one.hash} {one.state}" for one in self.pods.values())


def check_plan(wanted: Wanted, pods: list[Pod], found: Plan) -> None:
    """Hold a plan to what is true of every plan."""
    names = {one.name for one in pods}
    assert not names & {f"w-{ordinal}" for ordinal in found.create}, "a name is made while a pod has it"
    holding = sum(not one.over for one in pods)
    assert not found.create or holding + len(found.create) <= wanted.replicas + wanted.surge
    touched = [removal.pod.uid for removal in (*found.delete, *found.drain)]
    assert len(touched) == len(set(touched)), "two writes to one pod"
    assert not any(removal.pod.deleting for removal in (*found.delete, *found.drain))

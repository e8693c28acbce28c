"""Make the status from what is so. Called by `reconciling`. Pure: the time is given.

Two parts with two owners: this one is the operator's, written whenever it changes; `reporting` makes what workers
tell, written under the budget of `budgeting`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from rhapsode_contract.conditions import FAILURES, REASONS
from rhapsode_contract.frames import Gpu
from rhapsode_contract.names import DEFAULT_PORT, VRAM_NEARLY_FULL, VRAM_RELIEVED
from rhapsode_contract.statuses import (
    Condition,
    ConditionType,
    ReplicaStatus,
    Status,
    WorkerPhase,
)
from rhapsode_operator.building import selector
from rhapsode_operator.judging import Verdict, find_lost
from rhapsode_operator.observing import Pod, Worker, last_exit
from rhapsode_operator.planning import Wanted
from rhapsode_operator.tales import Tale

Word = Literal["True", "False", "Unknown"]
Judged = tuple[ConditionType, Word, Verdict]


class Seen(NamedTuple):
    """All that a status is made from."""

    worker: Worker
    wanted: Wanted
    pods: Sequence[Pod]
    verdicts: Mapping[str, Verdict]
    """By the uid of each pod that is not being deleted."""
    tales: Mapping[str, Tale]
    """By the uid of the pod."""
    failures: Mapping[str, int]
    """By the name of the pod."""
    trouble: Verdict | None = None
    """What keeps us from acting."""
    reachable: bool = True
    """Whether the relay Service is ours."""

    @property
    def current(self) -> list[Pod]:
        """Pods that are wanted and not on their way out."""
        return [pod for pod in self._made if 0 <= pod.ordinal < self.wanted.replicas]

    @property
    def ahead(self) -> list[Pod]:
        """Pods that come before an outdated one goes: what is wrong with them holds the rollout up."""
        return [pod for pod in self._made if 0 <= pod.ordinal - self.wanted.replicas < self.wanted.surge]

    @property
    def _made(self) -> list[Pod]:
        return [pod for pod in self.pods if not pod.deleting and pod.hash == self.wanted.pod_hash]


def project(seen: Seen, moment: str, old: Status) -> Status:
    """Return the operator's part of the status; `old` is what stands there."""
    worker, pods = seen.worker, sorted(seen.pods, key=lambda pod: (pod.ordinal, pod.name))
    assert worker.resource is not None
    spec, name = worker.resource.spec, worker.name
    conditions = [
        _since(old, Condition(type=kind, status=status, reason=verdict.reason, message=verdict.message), moment)
        for kind, status, verdict in _conditions(seen, old)
    ]
    for condition in conditions:
        condition.observed_generation = worker.generation
    return Status(
        observed_generation=worker.generation,
        replicas=len(pods),
        ready_replicas=sum(pod.ready for pod in pods),
        updated_replicas=sum(pod.hash == seen.wanted.pod_hash and not pod.deleting for pod in pods),
        selector=selector(name),
        phase=_phase(seen, {one.type: one for one in conditions}),
        engine=spec.engine_name,
        conditions=conditions,
        nodes=", ".join(dict.fromkeys(pod.node for pod in pods if pod.node)),
        workers=[_replica(pod, seen) for pod in pods],
        endpoint=f"http://{name}.{worker.namespace}.svc:{DEFAULT_PORT}" if seen.reachable else "",
    )


def troubled(worker: Worker, old: Status, why: Verdict, moment: str) -> Status:
    """Return the status of a resource that cannot be read: what was so, and what is wrong now."""
    judged: list[Judged] = [("Ready", "False", why), ("Reconciling", "False", why), ("Stalled", "True", why)]
    conditions = [
        _since(
            old,
            Condition(
                type=kind, status=word, reason=why.reason, message=why.message, observed_generation=worker.generation
            ),
            moment,
        )
        for kind, word, why in judged
    ]
    conditions += [one for one in old.conditions if one.type in ("ModelLoaded", "VRAMPressure")]
    return msgspec.structs.replace(old, observed_generation=worker.generation, phase="Failed", conditions=conditions)


def _replica(pod: Pod, seen: Seen) -> ReplicaStatus:
    ended = [end for container in pod.by_weight if (end := last_exit(container))]
    return ReplicaStatus(
        pod=pod.name,
        node=pod.node,
        ready=pod.ready,
        restarts=pod.restarts,
        replaced=seen.failures.get(pod.name, 0),
        last_exit=ended[0] if ended else None,
    )


def _since(old: Status, new: Condition, moment: str) -> Condition:
    """Keep the time of the last transition while the status is the same."""
    before = next((one for one in old.conditions if one.type == new.type and one.status == new.status), None)
    new.last_transition_time = before.last_transition_time if before else moment
    return new


def _conditions(seen: Seen, old: Status) -> list[Judged]:
    main = main_verdict(seen)
    ready = main.reason == "AllReplicasReady"
    settled = ready or main.reason == "Suspended"
    busy = not settled and not main.stalls
    idle = Verdict("Finished", "nothing is left to do") if settled else Verdict(main.reason, main.message)
    loaded = sum(pod.ready for pod in seen.pods)
    return [
        ("Ready", _word(ready), main),
        ("Reconciling", _word(busy), idle),
        ("Stalled", _word(main.stalls), main if main.stalls else Verdict("NoProblem", "nothing needs a person")),
        (
            "ModelLoaded",
            _word(loaded > 0),
            Verdict("Loaded", f"{_count(loaded, 'pod')} with the model in memory")
            if loaded
            else Verdict("NotLoaded", "no pod has the model in memory"),
        ),
        ("VRAMPressure", *_pressure(seen, old)),
    ]


def main_verdict(seen: Seen) -> Verdict:
    """Return why the resource as a whole is as it is: the worst of what is wrong, else the least advanced."""
    wanted = seen.wanted.replicas
    if seen.trouble is not None:
        return seen.trouble
    lost = [verdict for pod in seen.pods if pod.deleting and (verdict := find_lost(pod))]
    if wanted == 0:
        return _failure(lost) or _leaving(seen)
    ready = sum(pod.ready for pod in seen.current)
    if ready >= wanted and len(seen.pods) == wanted:
        return Verdict("AllReplicasReady", f"{ready} of {wanted} pod{'s' * (wanted != 1)} serving")
    verdicts = [seen.verdicts[pod.uid] for pod in seen.current if pod.uid in seen.verdicts]
    ahead = [seen.verdicts[pod.uid] for pod in seen.ahead if pod.uid in seen.verdicts] if ready < wanted else []
    return _failure([*verdicts, *ahead, *lost]) or _change(seen, ready) or _least_advanced(seen, verdicts)


def _failure(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return the first verdict that needs a person, else the first that is a failure."""
    failing = [one for one in verdicts if one.failing]
    return next((one for one in failing if one.stalls), failing[0] if failing else None)


def _change(seen: Seen, ready: int) -> Verdict | None:
    wanted, beyond = seen.wanted.replicas, len(seen.pods) - seen.wanted.replicas
    if any(pod.hash != seen.wanted.pod_hash for pod in seen.pods):
        return Verdict("RollingOut", f"{ready} of {wanted} pod{'s' * (wanted != 1)} of the present spec serving")
    if beyond > 0:
        return Verdict("Scaling", f"{_count(beyond, 'pod')} beyond {wanted} on the way out")
    return None


def _least_advanced(seen: Seen, verdicts: Sequence[Verdict]) -> Verdict:
    waiting = next((one for one in verdicts if one.reason != "AllReplicasReady"), None)
    blocked = " and ".join(pod.name for pod in seen.pods if pod.deleting)
    when = f" when {blocked} is gone" if blocked else ""
    return waiting or Verdict(
        "Creating", f"{_count(seen.wanted.replicas - len(seen.current), 'pod')} to be made{when}"
    )


def _leaving(seen: Seen) -> Verdict:
    if not seen.pods:
        return Verdict("Suspended", "no pod is wanted: spec.suspend is true or spec.replicas is 0")
    return Verdict("Draining", f"{_count(len(seen.pods), 'pod')} on the way out")


def _pressure(seen: Seen, old: Status) -> tuple[Word, Verdict]:
    tales = [tale for pod in seen.pods if (tale := seen.tales.get(pod.uid))]
    told = [tale.vram for tale in tales if tale.vram]
    gpus = [gpu for vram in told for gpu in vram.gpus if gpu.healthy]
    before = next((one for one in old.conditions if one.type == "VRAMPressure"), None)
    if not gpus and before is not None and any(not tale.met for tale in tales):
        return before.status, Verdict(before.reason, before.message)  # an operator before us knew
    if not gpus:
        why = "nobody measures: no NVIDIA driver, or it cannot tell" if told else "no worker has told of its GPUs yet"
        return "Unknown", Verdict("VRAMUnknown", why)
    fullest = max(gpus, key=used_share)
    was = before is not None and before.status == "True"
    if used_share(fullest) >= (VRAM_RELIEVED if was else VRAM_NEARLY_FULL):
        said = f"{fullest.uuid} is nearly full: it has {_mib(fullest.total_bytes)} MiB"
        return "True", Verdict("VRAMHigh", f"{said}. Lower maxSequences or maxContextTokens before requests fail.")
    return "False", Verdict("VRAMLow", "enough of every GPU's memory is free")


def used_share(gpu: Gpu) -> float:
    """Return how full a GPU is, 0 to 1."""
    return (gpu.used_bytes + (gpu.reserved_bytes or 0)) / gpu.total_bytes if gpu.total_bytes else 0.0


_PHASES: Mapping[str, WorkerPhase] = {
    "AllReplicasReady": "Ready", "Suspended": "Suspended", "Draining": "Draining", "Loading": "Loading",
    "Starting": "Starting", "ImagePulling": "Starting", "Creating": "Pending", "Scheduling": "Pending",
    "RollingOut": "Updating", "Scaling": "Updating",
}  # fmt: skip


def _phase(seen: Seen, conditions: Mapping[str, Condition]) -> WorkerPhase:
    """Return one word for people. `Updating` is a change of pods that there are: their first start is none."""
    main = conditions["Ready"].reason
    serving = any(pod.ready for pod in seen.pods)
    if main in FAILURES:
        return "Degraded" if serving else "Failed" if REASONS[main].stalls else "Pending"
    return _PHASES[main]


def _word(true: bool) -> Word:
    return "True" if true else "False"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _mib(size: int) -> int:
    return round(size / 2**20)

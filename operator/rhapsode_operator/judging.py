"""Say of each pod how it is and why: one reason of the table, one sentence with its remedy. Pure.

From container states, exit codes, pod conditions and what the relay tells. The first that applies holds; the order is
that of a pod's life, and a failure is remembered until the worker has loaded again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from rhapsode_contract.conditions import FAILURES, REASONS
from rhapsode_contract.names import EXIT_CANNOT_WORK
from rhapsode_operator.observing import WORKER, Container, Pod, Terminated, read_told
from rhapsode_operator.tales import Tale

UNREACHABLE_AFTER_S = 20.0
"""A relay that is up and does not answer for so long is unreachable."""
MAX_MESSAGE = 700

_PULL = {
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable",
    "ImageInspectError", "SignatureValidationFailed",
}  # fmt: skip
_CONFIG = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreStartHookError"}
_PUT_OUT = {"Evicted", "Preempting", "Terminated"}
_REFUSED = ("UnexpectedAdmissionError", "TopologyAffinityError", "OutOf", "Node")
"""How the reasons begin that a kubelet gives when it does not take a pod."""


_CRASHES = {"worker": "WorkerCrash", "relay": "RelayCrash", "model": "FetchFailed"}


class Verdict(NamedTuple):
    """How a pod is. `failing`: something is wrong with it."""

    reason: str
    message: str

    @property
    def failing(self) -> bool:
        return self.reason in FAILURES

    @property
    def stalls(self) -> bool:
        """Whether only a person can help."""
        return REASONS[self.reason].stalls


class _Record(msgspec.Struct):
    """A line of one of our logs."""

    message: str


def judge(pod: Pod, tale: Tale | None, now: float, stall_s: float) -> Verdict:
    """Return how a pod is that is wanted."""
    for look in (_ended, _placed, _served, _contained, _crashed, _told_of_failure, _silent):
        if verdict := look(pod, tale, now, stall_s):
            return verdict
    return _progress(pod, tale)


def _verdict(reason: str, said: str) -> Verdict:
    remedy = REASONS[reason].remedy if reason in FAILURES else ""
    said = said.strip().rstrip(".")
    if not remedy or remedy.rstrip(".") in said:
        return Verdict(reason, f"{said[: MAX_MESSAGE - 1]}{'.' * bool(remedy)}")
    room = MAX_MESSAGE - len(remedy) - 2
    return Verdict(reason, f"{said if len(said) <= room else said[: room - 1] + '…'}. {remedy}")


def _ended(pod: Pod, *_: Any) -> Verdict | None:
    if not pod.over:
        return None
    if pod.reason in _PUT_OUT:
        return _verdict("Evicted", f"{pod.name} was put out of {pod.node or 'its node'}: {pod.message or pod.reason}")
    if pod.reason.startswith(_REFUSED):
        return _verdict("PodRejected", f"{pod.node or 'the node'} refused {pod.name}: {pod.message or pod.reason}")
    why = pod.message or pod.reason or _how_it_ended(pod)
    return _verdict("PodFailed", f"{pod.name} ended{f': {why}' if why else ''}")


def _how_it_ended(pod: Pod) -> str:
    ends = [(one.name, end) for one in pod.by_weight if (end := one.last_end)]
    return f"{ends[0][0]}, {_how(ends[0][1])}" if ends else ""


def _placed(pod: Pod, *_: Any) -> Verdict | None:
    scheduled = pod.conditions.get("PodScheduled")
    if pod.node:
        return find_lost(pod)
    if scheduled is not None and scheduled.status == "False" and scheduled.reason == "Unschedulable":
        return _verdict("Unschedulable", f"{pod.name} fits nowhere: {scheduled.message}")
    return Verdict("Scheduling", f"{pod.name} waits for the scheduler")


def find_lost(pod: Pod) -> Verdict | None:
    """Return the verdict on a pod whose node is silent; its deletion waits for the node.

    Then the node controller takes the pod's Ready away and nothing else: no kubelet would without a reason.
    """
    ready, contained = pod.conditions.get("Ready"), pod.conditions.get("ContainersReady")
    if ready is None or ready.status == "True":
        return None
    unreasoned = not ready.reason and contained is not None and contained.status == "True"
    if ready.status == "Unknown" or ready.reason == "NodeStatusUnknown" or unreasoned:
        return _verdict("NodeLost", f"node {pod.node} of {pod.name} does not answer")
    return None


def _served(pod: Pod, *_: Any) -> Verdict | None:
    return Verdict("AllReplicasReady", f"{pod.name} serves") if pod.ready else None


def _contained(pod: Pod, *_: Any) -> Verdict | None:
    for container in (pod.relay, pod.fetcher, pod.worker):
        waiting = container.state.waiting
        if waiting is None:
            continue
        image = pod.images.get(container.name, "its image")
        if waiting.reason in _PULL:
            return _verdict(
                "ImagePull", f"{image} for {pod.name} cannot be pulled: {waiting.message or waiting.reason}"
            )
        if waiting.reason in _CONFIG:
            return _verdict("ContainerConfig", f"{container.name} of {pod.name}: {waiting.message or waiting.reason}")
    return None


def _crashed(pod: Pod, tale: Tale | None, *_: Any) -> Verdict | None:
    """A container ended and has not recovered: that is remembered until it has started, or fetches on."""
    fetched = pod.fetcher.last_end
    if pod.fetches and fetched is not None and not (pod.fetcher.running and _gets_on(tale)):
        return _verdict_of_end(pod, pod.fetcher, fetched)
    for container in (pod.worker, pod.relay):
        end = container.last_end
        if end is not None and not (container.running and container.started):
            return _verdict_of_end(pod, container, end)
    return None


def _gets_on(tale: Tale | None) -> bool:
    """Return whether a load moves again after its last complaint."""
    return tale is not None and tale.load is not None and not tale.complains


def _verdict_of_end(pod: Pod, container: Container, end: Terminated) -> Verdict:
    """Return what an end means. How often it came is not told: each restart would rewrite the conditions."""
    if end.reason == "OOMKilled":
        return _verdict("ContainerOOM", f"{container.name} of {pod.name} used more memory than its limit")
    if told := read_told(end.message):
        return _verdict(told.reason, told.message)
    crash = _CRASHES[container.name]
    reason = "InvalidSpec" if end.exit_code == EXIT_CANNOT_WORK and container.name == "relay" else crash
    last = _last_words(end.message)
    return _verdict(reason, f"{container.name} of {pod.name} ended by {_how(end)}{f': {last}' if last else ''}")


def _last_words(log: str) -> str:
    """Return what a container's last line says: the message of a log record, else the line."""
    line = log.strip().rpartition("\n")[2]
    try:
        return msgspec.json.decode(line, type=_Record).message
    except msgspec.DecodeError:
        return line


def _how(end: Terminated) -> str:
    signal = end.signal or (end.exit_code - 128 if end.exit_code > 128 else 0)
    return f"signal {signal}" if signal else f"exit code {end.exit_code}"


def _told_of_failure(_pod: Pod, tale: Tale | None, *_: Any) -> Verdict | None:
    if tale is None or tale.phase != "failed":
        return None
    reason = tale.reason if tale.reason in FAILURES else "EngineCrash"
    return _verdict(reason, tale.message or "the worker gave up")


def _silent(pod: Pod, tale: Tale | None, now: float, stall_s: float) -> Verdict | None:
    if tale is None or not pod.relay.started:
        return None
    if tale.lost_at is not None and now - tale.lost_at > UNREACHABLE_AFTER_S:
        said = f"the relay of {pod.name} at {pod.ip} has not answered for more than {UNREACHABLE_AFTER_S:g} s"
        return _verdict("RelayUnreachable", said)
    silent_s = now - max(tale.progress_at, tale.since)
    works = pod.worker.running or pod.fetcher.running
    if works and tale.phase in ("starting", "loading", "lost") and silent_s > stall_s:
        doing = tale.load.stage if tale.load else "starting"
        return _verdict("LoadStalled", f"{pod.name} made no progress with {doing} for more than {round(stall_s)} s")
    return None


def _progress(pod: Pod, tale: Tale | None) -> Verdict:
    if (made := pod.conditions.get("PodReadyToStartContainers")) and made.status == "False":
        return Verdict("Creating", f"{pod.name} waits for its network and volumes{_named(pod.volumes)}")
    if coming := _coming(pod):
        return coming
    if tale is None or tale.phase in ("starting", "lost"):
        return Verdict("Starting", f"{pod.name} starts")
    if tale.phase == "draining":
        return Verdict("Draining", f"{pod.name} finishes what it has in hand")
    if tale.phase == "ready":
        return Verdict("Starting", f"{pod.name} has loaded its model and does not pass its readiness probe yet")
    return Verdict("Loading", f"{pod.name} loads its model; status.load says how far")


def _coming(pod: Pod) -> Verdict | None:
    """Return what the pod still waits for before its worker runs: an image, or its model."""
    if pod.fetcher.running:
        return Verdict("Loading", f"{pod.name} fetches its model; status.load says how far")
    for name, container in (("relay", pod.relay), ("worker", pod.worker)):
        if not container.running and not (name == WORKER and _has_fetched(pod)):
            return Verdict("ImagePulling", f"{pod.images.get(name, f'the {name}')} comes to {pod.node}")
    return None


def _has_fetched(pod: Pod) -> bool:
    """Return whether its model came, by the worker's image: that one is here."""
    return pod.fetcher.state.terminated is not None and not pod.fetches


def _named(volumes: Sequence[str]) -> str:
    return f": {', '.join(volumes)}" if volumes else ""

"""What a kubelet says about a pod: pure functions from what its containers do to `status`. Used by `pod_lives`."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any, Literal

JSON = dict[str, Any]
Kind = Literal["init", "sidecar", "main"]
GPU = "nvidia.com/gpu"


def now() -> str:
    """Return the time as Kubernetes writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class ContainerState:
    """What the kubelet knows of one container."""

    name: str
    image: str
    kind: Kind
    state: JSON = field(default_factory=dict)
    last_state: JSON = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    started: bool = False

    @property
    def doing(self) -> str:
        """Return waiting, running or terminated."""
        return next(iter(self.state), "waiting")

    @property
    def exit_code(self) -> int | None:
        """Return how it ended, if it has."""
        code = self.state.get("terminated", {}).get("exitCode")
        return None if code is None else int(code)

    @property
    def initialized(self) -> bool:
        """Return whether what comes after an init container may start."""
        return self.started if self.kind == "sidecar" else self.exit_code == 0

    def status(self) -> JSON:
        """Return the entry of containerStatuses."""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": "",
            "state": self.state,
            "lastState": self.last_state,
            "restartCount": self.restarts,
            "ready": self.ready,
            "started": self.started,
        }


def states_of(pod: JSON) -> list[ContainerState]:
    """Return the containers of a new pod, in the order of their start."""
    spec = pod["spec"]
    inits = spec.get("initContainers") or []
    waiting = {"waiting": {"reason": "PodInitializing" if inits else "ContainerCreating"}}
    found = [
        ContainerState(
            one["name"], one["image"], "sidecar" if one.get("restartPolicy") == "Always" else "init", waiting
        )
        for one in inits
    ]
    return found + [ContainerState(one["name"], one["image"], "main", waiting) for one in spec["containers"]]


def phase_of(states: list[ContainerState], restart_policy: str) -> str:
    """Return the phase as the kubelet counts it: a container that waits for its image keeps the pod Pending."""
    inits, mains = _split(states)
    if not (_begun(mains) or all(one.initialized for one in inits)):
        return "Pending"
    if any(one.doing == "waiting" and not one.last_state for one in mains):
        return "Pending"
    if restart_policy == "Always" or any(one.doing != "terminated" for one in mains):
        return "Running"
    return "Succeeded" if all(one.exit_code == 0 for one in mains) else "Failed"


def conditions_of(states: list[ContainerState], before: list[JSON], *, over: bool = False) -> list[JSON]:
    """Return the pod's conditions; those that did not change keep the time of their change."""
    inits, mains = _split(states)
    slow = [one.name for one in inits if not one.initialized and not _begun(mains)]
    counted = [one for one in states if one.kind != "init"]
    unready = [one.name for one in counted if not one.ready]
    made = [
        {"type": "PodScheduled", "status": "True"},
        _condition("Initialized", slow, "ContainersNotInitialized", "incomplete", over=over),
        _condition("ContainersReady", unready, "ContainersNotReady", "unready", over=over),
        _condition("Ready", unready, "ContainersNotReady", "unready", over=over),
    ]
    return [dated(one, before) for one in made]


def dated(condition: JSON, before: list[JSON]) -> JSON:
    """Return a condition with the time of its last change."""
    old = next((one for one in before if one["type"] == condition["type"]), None)
    same = old is not None and old["status"] == condition["status"]
    return condition | {"lastTransitionTime": old["lastTransitionTime"] if old and same else now()}


def unschedulable(message: str) -> JSON:
    """Return the status of a pod that fits nowhere."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"conditions": [condition | {"lastTransitionTime": now()}]}


def terminated(code: int, reason: str, message: str, started_at: str) -> JSON:
    """Return the state of a container that ended. No runtime of today fills `signal`: 128 + n says it."""
    ended = {"exitCode": code, "reason": reason, "startedAt": started_at, "finishedAt": now()}
    return {"terminated": ended | ({"message": message} if message else {})}


def _condition(kind: str, lacking: list[str], reason: str, word: str, *, over: bool) -> JSON:
    if not lacking:
        return {"type": kind, "status": "True", "reason": None, "message": None}  # a merge would keep what was there
    if over:
        return {"type": kind, "status": "False", "reason": "PodCompleted"}
    message = f"containers with {word} status: [{' '.join(lacking)}]"
    return {"type": kind, "status": "False", "reason": reason, "message": message}


def _begun(mains: list[ContainerState]) -> bool:
    """Return whether a container after the init containers ever ran: then a sidecar's restart changes no phase."""
    return any(one.doing != "waiting" or one.last_state for one in mains)


def _split(states: list[ContainerState]) -> tuple[list[ContainerState], list[ContainerState]]:
    return [one for one in states if one.kind != "main"], [one for one in states if one.kind == "main"]

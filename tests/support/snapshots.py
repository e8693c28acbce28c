"""Resources, pods and what relays tell, as the deciding half of the operator sees them: in one line each."""

from typing import Any

from rhapsode_contract import events
from rhapsode_operator.observing import Pod, Worker, read_pod, read_worker
from rhapsode_operator.tales import Tale

JSON = dict[str, Any]
UID = "11111111-2222-3333-4444-555555555555"
"""Of the resource `w`."""
RAN = {"running": {"startedAt": "2026-11-21T10:00:00Z"}}
COMING = {"waiting": {"reason": "PodInitializing"}}
STATES = ("new", "pulling", "loading", "serving", "unready", "failed")
"""How a pod can be, for most purposes."""


def resource(name: str = "w", namespace: str = "ns", uid: str = UID, **spec: Any) -> JSON:
    """Return an InferenceWorker as the API server has it."""
    return {
        "apiVersion": "rhapsode.dev/v1alpha1",
        "kind": "InferenceWorker",
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "generation": 1},
        "spec": {"model": {"source": "builtin://simulator"}, **spec},
    }


def worker(**how: Any) -> Worker:
    """Return a resource as it was read."""
    return read_worker(resource(**how))


def container(
    name: str, state: JSON, *, ready: bool = False, started: bool = False, restarts: int = 0, last: JSON | None = None
) -> JSON:
    """Return an entry of containerStatuses."""
    image = f"registry.example/{name}:1"
    return {
        "name": name, "image": image, "imageID": "", "state": state, "lastState": last or {},
        "ready": ready, "started": started, "restartCount": restarts,
    }  # fmt: skip


def pod_body(
    name: str = "w-0", pod_hash: str = "a", *, owner: str = UID, uid: str = "", deleting: bool = False, **status: Any
) -> JSON:
    """Return a pod on a node, as the API server has it, with a status of the test's own."""
    base, _, ordinal = name.rpartition("-")
    metadata: JSON = {
        "name": name, "namespace": "ns", "uid": uid or f"{name}/{pod_hash}",
        "labels": {"rhapsode.dev/worker": base, "rhapsode.dev/ordinal": ordinal},
        "annotations": {"rhapsode.dev/pod-hash": pod_hash},
        "ownerReferences": [{"kind": "InferenceWorker", "name": base, "uid": owner, "controller": True}],
    }  # fmt: skip
    if deleting:
        metadata["deletionTimestamp"] = "2026-11-21T10:05:00Z"
    spec = {
        "nodeName": status.pop("node", "n1"),
        "initContainers": [{"name": "relay", "image": "registry.example/relay:1"}],
        "containers": [{"name": "worker", "image": "registry.example/worker:1"}],
    }
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Running", "podIP": "10.0.0.1", **status}}


def condition(kind: str, status: bool | str, reason: str = "", message: str = "") -> JSON:
    """Return a condition of a pod."""
    word = status if isinstance(status, str) else str(status)
    found = {"type": kind, "status": word, "lastTransitionTime": "2026-11-21T10:00:00Z"}
    return found | ({"reason": reason, "message": message} if reason else {})


def conditions(*, ready: bool) -> list[JSON]:
    """Return what the kubelet says of a pod that runs."""
    why = ("", "") if ready else ("ContainersNotReady", "containers with unready status: [relay worker]")
    return [
        condition("PodScheduled", True), condition("Initialized", True),
        condition("ContainersReady", ready, *why), condition("Ready", ready, *why),
    ]  # fmt: skip


def pod(name: str = "w-0", state: str = "serving", pod_hash: str = "a", **also: Any) -> Pod:
    """Return a pod in one of `STATES`."""
    return read_pod(pod_body(name, pod_hash, **_status(state), **also))


def _status(state: str) -> JSON:
    up = container("relay", RAN, ready=state == "serving", started=True)
    loaded = state in ("serving", "unready")
    runs = container("worker", RAN, ready=loaded, started=loaded)
    match state:
        case "new":
            return {"phase": "Pending", "node": "", "podIP": ""}
        case "pulling":
            waits = container("worker", COMING)
            return {
                "phase": "Pending", "conditions": conditions(ready=False),
                "initContainerStatuses": [up], "containerStatuses": [waits],
            }  # fmt: skip
        case "failed":
            return {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no healthy GPU"}
    return {
        "conditions": conditions(ready=state == "serving"),
        "initContainerStatuses": [up],
        "containerStatuses": [runs],
    }


SERVING = _status("serving")
LOADING = _status("loading")
"""Of a pod, as its kubelet writes it."""
MOMENT = "2026-11-21T10:00:00.000Z"


def opening(phase: str = "loading", ts: str = MOMENT, **facts: Any) -> events.Worker:
    """Return the first event of a worker's stream."""
    given: Any = {"seq": 0, "ts": ts, "phase": phase, "running": 0, "queued": 0} | facts
    return events.Worker(**given)


def told(*heard: events.StreamEvent, at: float = 0.0, since: float = 0.0) -> Tale:
    """Return the tale of a relay that told this, all at one moment."""
    tale = Tale(since=since, lost_at=since)
    for event in heard or (opening("loading"),):
        tale.hear(event, at)
    return tale

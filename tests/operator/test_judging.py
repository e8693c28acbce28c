"""What is said of a pod: each failure as kubelet, scheduler and worker report it, its reason, and words that help.

| where it shows | reasons |
|---|---|
| the pod is over | PodRejected, Evicted, PodFailed |
| no node, or a silent one | Unschedulable, NodeLost |
| a container waits | ImagePull, ContainerConfig |
| a container ended | ContainerOOM, WorkerCrash, RelayCrash, InvalidSpec, and what the worker wrote down |
| the relay tells, or is silent | EngineCrash and other words of the worker, LoadStalled, RelayUnreachable |
"""

import json
from typing import Any, NamedTuple

import pytest

from rhapsode_contract import events
from rhapsode_contract.conditions import FAILURES
from rhapsode_operator.judging import MAX_MESSAGE, Verdict, judge
from rhapsode_operator.observing import Pod, read_pod
from rhapsode_operator.tales import Tale
from support.snapshots import COMING, RAN, condition, conditions, container, opening, pod, pod_body, told

JSON = dict[str, Any]
STALL_S = 600.0
NODES = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available."
PULL = 'failed to pull and unpack image "registry.example/worker:1": not found'
BACKOFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container=worker"}}
RELAY_UP = container("relay", RAN, ready=False, started=True)


class Case(NamedTuple):
    """A pod, what its relay told and how long ago, and what is said of it."""

    id: str
    pod: Pod
    reason: str
    words: tuple[str, ...]
    tale: Tale | None = None
    now: float = 0.0


def on_node(*, relay: JSON = RELAY_UP, worker: JSON | None = None, **status: Any) -> Pod:
    """Return a pod on node n1 that is not ready."""
    given = {
        "conditions": conditions(ready=False),
        "initContainerStatuses": [relay],
        "containerStatuses": [worker or container("worker", RAN)],
    }
    return read_pod(pod_body(**(given | status)))


def over(reason: str, message: str) -> Pod:
    return read_pod(pod_body(phase="Failed", reason=reason, message=message))


def unplaced(reason: str, message: str) -> Pod:
    return read_pod(
        pod_body(phase="Pending", node="", conditions=[condition("PodScheduled", False, reason, message)])
    )


def waiting(name: str, reason: str, message: str) -> Pod:
    found = container(name, {"waiting": {"reason": reason, "message": message}})
    return on_node(relay=found) if name == "relay" else on_node(worker=found)


def ended(code: int, reason: str = "Error", message: str = "", restarts: int = 3, name: str = "worker") -> Pod:
    """Return a pod whose container waits to be started again."""
    last = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    found = container(name, BACKOFF, restarts=restarts, last=last)
    return on_node(relay=found) if name == "relay" else on_node(worker=found)


def wrote(reason: str, message: str) -> Pod:
    """Return a pod whose worker gave up and said why."""
    return ended(78, message=json.dumps({"reason": reason, "message": message}))


def lost() -> Pod:
    """Return a pod as the node controller marks it when the node is silent."""
    marked = [one if one["type"] != "Ready" else condition("Ready", False) for one in conditions(ready=True)]
    up = [container(name, RAN, ready=True, started=True) for name in ("relay", "worker")]
    return on_node(relay=up[0], worker=up[1], conditions=marked)


def gave_up(reason: str, message: str) -> Tale:
    return told(opening("failed", reason=reason, message=message))


ASKED = "asked for 1,200 MiB with 310 MiB free on GPU-0. Lower maxSequences"
RECORD = '{"timestamp":"x","level":"error","message":"Cannot bind: address in use","worker_id":"w-0"}'
CASES = [
    Case("no node", unplaced("Unschedulable", NODES), "Unschedulable", ("w-0 fits nowhere", "3 Insufficient nvidia.com/gpu", "lower spec.gpus")),
    Case("node refused", over("UnexpectedAdmissionError", "Allocate failed: no healthy devices"), "PodRejected", ("n1 refused w-0", "no healthy devices", "device plugin")),
    Case("no room on the node", over("OutOfnvidia.com/gpu", "Node didn't have enough resource"), "PodRejected", ("n1 refused", "enough resource")),
    Case("GPUs on two sockets", over("TopologyAffinityError", "Resources cannot be allocated with Topology locality"), "PodRejected", ("Topology locality",)),
    Case("wrong node", over("NodeAffinity", "Pod was rejected"), "PodRejected", ("n1 refused",)),
    Case("evicted", over("Evicted", "The node was low on resource: memory."), "Evicted", ("put out of n1", "low on resource: memory", "disk")),
    Case("preempted", over("Preempting", "Preempted in order to admit critical pod"), "Evicted", ("critical pod",)),
    Case("node shut down", over("Terminated", "Pod was terminated in response to imminent node shutdown."), "Evicted", ("node shutdown",)),
    Case("deadline", over("DeadlineExceeded", "Pod was active on the node longer than the specified deadline"), "PodFailed", ("w-0 ended", "deadline", "growing pauses")),
    Case("ended without a word", read_pod(pod_body(phase="Failed", containerStatuses=[container("worker", {"terminated": {"exitCode": 3}})])), "PodFailed", ("worker, exit code 3",)),
    Case("node silent", lost(), "NodeLost", ("node n1 of w-0 does not answer", "delete the node")),
    Case("node unknown", on_node(conditions=[condition("Ready", "Unknown", "NodeStatusUnknown")]), "NodeLost", ("n1",)),
    Case("no worker image", waiting("worker", "ErrImagePull", PULL), "ImagePull", ("registry.example/worker:1 for w-0", "not found", "pull secret")),
    Case("no relay image", waiting("relay", "ImagePullBackOff", "Back-off pulling image"), "ImagePull", ("registry.example/relay:1",)),
    Case("no image name", waiting("worker", "InvalidImageName", ""), "ImagePull", ("InvalidImageName",)),
    Case("unsigned image", waiting("worker", "SignatureValidationFailed", "no signature"), "ImagePull", ("no signature",)),
    Case("no Secret", waiting("worker", "CreateContainerConfigError", 'secret "hf" not found'), "ContainerConfig", ("worker of w-0", 'secret "hf" not found', "Make what the message names")),
    Case("no runtime", waiting("relay", "RunContainerError", "exec: python: not found"), "ContainerConfig", ("relay of w-0", "python")),
    Case("memory", ended(137, "OOMKilled"), "ContainerOOM", ("worker of w-0 used more memory than its limit", "memory limit in spec.resources")),
    Case("relay's memory", ended(137, "OOMKilled", restarts=1, name="relay"), "ContainerOOM", ("relay of w-0",)),
    Case("killed", ended(139), "WorkerCrash", ("ended by signal 11", "worker's log")),
    Case("worker's last line", ended(1, message=f"starting\n{RECORD}\n"), "WorkerCrash", ("exit code 1: Cannot bind: address in use.",)),
    Case("plain last line", ended(1, message="Traceback\nImportError: no module named x"), "WorkerCrash", (": ImportError: no module named x.",)),
    Case("relay's end", ended(1, name="relay"), "RelayCrash", ("relay of w-0 ended by exit code 1", "relay's log")),
    Case("relay's contract", ended(78, name="relay", message="rhapsode-relay: spec.outcomes[0].sinks[0].part: the schema has no /intents/x"), "InvalidSpec", ("spec.outcomes[0].sinks[0].part: the schema has no /intents/x.", "Correct the spec")),
    Case("relay's manifest", ended(78, name="relay", message="spec.model: required"), "InvalidSpec", ("spec.model: required", "Correct the spec")),
    Case("CUDA memory", wrote("CUDAOutOfMemory", ASKED), "CUDAOutOfMemory", ("1,200 MiB with 310 MiB free", "kvCacheFraction")),
    *[Case(f"worker wrote {reason}", wrote(reason, "because. "), reason, ("because.", FAILURES[reason].remedy)) for reason in ("ModelNotFound", "SourceNotSupported", "BadEngineOption", "EngineNotInstalled", "ModelLoadFailed", "ModelNotSupported", "CheckpointBroken", "DriverMismatch", "GPUsNotConnected", "SharedMemoryMissing", "FetchFailed", "ModelGated", "CacheFull")],
    Case("worker wrote nonsense", wrote("Loaded", "who knows"), "EngineCrash", ("who knows",)),
    Case("remembered while it loads again", on_node(worker=container("worker", RAN, restarts=1, last={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})), "ContainerOOM", ("more memory",)),
    Case("worker told a failure", on_node(), "BadEngineOption", ("no option kvCache", "Correct spec.engine.options"), gave_up("BadEngineOption", "no option kvCache")),
    Case("worker told a new failure", on_node(), "EngineCrash", ("the engine fell over",), gave_up("FellOver", "the engine fell over")),
    Case("worker told nothing", on_node(), "EngineCrash", ("the worker gave up", "worker's log"), gave_up("", "")),
    Case("silent load", on_node(), "LoadStalled", ("no progress with loading weights for more than 600 s", "stallSeconds"), told(opening(), events.Load(seq=1, stage="loading weights")), 601),
    Case("silent start", on_node(), "LoadStalled", ("starting",), told(opening("starting")), 601),
    Case("relay away", on_node(), "RelayUnreachable", ("relay of w-0 at 10.0.0.1", "20 s", "port 9101"), Tale(since=0, lost_at=0), 21),
    # nothing is wrong
    Case("in line", unplaced("SchedulingGated", "gated"), "Scheduling", ("waits for the scheduler",)),
    Case("just made", pod(state="new"), "Scheduling", ("w-0",)),
    Case("volumes", on_node(conditions=[condition("PodReadyToStartContainers", False)]), "Creating", ("network and volumes",)),
    Case("relay's image comes", on_node(relay=container("relay", COMING), worker=container("worker", COMING)), "ImagePulling", ("registry.example/relay:1 comes to n1",)),
    Case("worker's image comes", pod(state="pulling"), "ImagePulling", ("registry.example/worker:1 comes to n1",)),
    Case("a pull takes as long as it takes", pod(state="pulling"), "ImagePulling", ("worker:1",), told(opening("starting")), 9_999),
    Case("starts", on_node(), "Starting", ("w-0 starts",)),
    Case("loads", on_node(), "Loading", ("status.load",), told(opening("loading")), 599),
    Case("loaded, not ready", on_node(), "Starting", ("readiness probe",), told(opening("ready"))),
    Case("drains", on_node(), "Draining", ("what it has in hand",), told(opening("draining"))),
    Case("relay away for a moment", on_node(), "Starting", ("w-0",), Tale(since=0, lost_at=0), 19),
    Case("gets on again", on_node(), "Loading", (), told(opening(), events.Load(seq=1, stage="loading weights"), at=500), 1_000),
    Case("relay not up", on_node(relay=container("relay", RAN)), "Starting", (), Tale(since=0, lost_at=0), 9_999),
    Case("serves", pod(state="serving"), "AllReplicasReady", ("w-0 serves",), told(opening("ready"))),
    Case("serves after a crash", read_pod(pod_body(conditions=conditions(ready=True), initContainerStatuses=[RELAY_UP], containerStatuses=[container("worker", RAN, ready=True, started=True, restarts=4, last={"terminated": {"exitCode": 1}})])), "AllReplicasReady", ()),
]  # fmt: skip
BY_JUDGE = FAILURES.keys() - {"NameTaken", "Forbidden"}
"""The others are told of what the API server refuses."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.replace(" ", "-"))
def test_what_is_said_of(case: Case) -> None:
    verdict = judge(case.pod, case.tale, case.now, STALL_S)
    assert verdict.reason == case.reason, verdict.message
    assert [word for word in case.words if word not in verdict.message] == [], verdict.message
    assert verdict.failing == (case.reason in FAILURES)
    assert not verdict.failing or verdict.message.endswith(FAILURES[case.reason].remedy)


@pytest.mark.parametrize("reason", sorted(BY_JUDGE))
def test_a_remedy_that_the_worker_names_itself_is_said_once(reason: str) -> None:
    remedy = FAILURES[reason].remedy
    for found, tale in (
        (wrote(reason, f"No such model. {remedy}"), None),
        (on_node(), gave_up(reason, f"No. {remedy}")),
    ):
        message = judge(found, tale, 0, STALL_S).message
        assert message.count(remedy.rstrip(".")) == 1
        assert message.endswith(remedy)


def test_another_restart_changes_no_message() -> None:
    for reason, code in (("OOMKilled", 137), ("Error", 1)):
        verdicts = {judge(ended(code, reason, restarts=restarts), None, 0, STALL_S) for restarts in (1, 14)}
        assert len(verdicts) == 1


def test_every_failure_of_a_pod_is_in_the_table() -> None:
    assert {case.reason for case in CASES if case.reason in FAILURES} == BY_JUDGE


def test_a_pod_that_waits_for_its_volumes_names_them() -> None:
    body = pod_body(conditions=[condition("PodReadyToStartContainers", False)])
    body["spec"]["volumes"] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "cache", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "keys", "secret": {"secretName": "chat-keys"}},
    ]
    assert "claim models, Secret chat-keys" in judge(read_pod(body), None, 0, STALL_S).message


@pytest.mark.parametrize("length", [1, 300, 500, 700, 5_000])
def test_a_long_complaint_leaves_room_for_the_remedy(length: int) -> None:
    verdict = judge(waiting("worker", "ErrImagePull", "x" * length), None, 0, STALL_S)
    assert len(verdict.message) <= MAX_MESSAGE
    assert verdict.message.endswith(FAILURES["ImagePull"].remedy)
    assert ("…" in verdict.message) == (length > 600)


# What counts before what

CRASHED = container("worker", BACKOFF, restarts=2, last={"terminated": {"exitCode": 1, "reason": "Error"}})


@pytest.mark.parametrize(
    ("found", "tale", "reason"),
    [
        (over("Evicted", ""), gave_up("FetchFailed", ""), "Evicted"),
        (lost(), Tale(since=0, lost_at=0), "NodeLost"),
        (pod(state="serving"), Tale(since=0, lost_at=0), "AllReplicasReady"),
        (waiting("worker", "ErrImagePull", ""), Tale(since=0, lost_at=0), "ImagePull"),
        (on_node(worker=CRASHED), gave_up("FetchFailed", ""), "WorkerCrash"),
        (on_node(worker=CRASHED), Tale(since=0, lost_at=0), "WorkerCrash"),
        (on_node(), gave_up("FetchFailed", ""), "FetchFailed"),
        (on_node(), Tale(since=0, lost_at=0), "RelayUnreachable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_comes_first_in_a_pods_life_is_what_is_said(found: Pod, tale: Tale, reason: str) -> None:
    assert judge(found, tale, 10_000, STALL_S).reason == reason


def test_what_stalls_is_what_the_table_says() -> None:
    assert Verdict("ImagePull", "").stalls
    assert not Verdict("NodeLost", "").stalls
    assert not Verdict("Loading", "").failing

"""What the watch saw, as types: resources and pods, without what we never read. Pure; called by `watching`."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from rhapsode_contract.conditions import FAILURES
from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.statuses import LastExit, Status

POD_LABEL = "rhapsode.dev/worker"
"""Label of our pods: the name of the InferenceWorker."""
ORDINAL_LABEL = "rhapsode.dev/ordinal"
HASH_ANNOTATION = "rhapsode.dev/pod-hash"
MANIFEST_ANNOTATION = "rhapsode.dev/manifest"
PROTECT_ANNOTATIONS = {
    "karpenter.sh/do-not-disrupt": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
}
"""Set while a pod loads; taken away when it serves."""
RELAY, MODEL, WORKER = "relay", "model", "worker"
"""Our containers, in the order of their start; the second only where a model is fetched from a hub."""


class Waiting(Struct, frozen=True):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class Running(Struct, frozen=True, rename="camel"):
    """Since when a container runs."""

    started_at: str | None = None


class Terminated(Struct, frozen=True, rename="camel"):
    """How a container ended."""

    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""


class ContainerState(Struct, frozen=True):
    """One of the three, or none while the node has said nothing."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class Container(Struct, frozen=True, rename="camel"):
    """A container as the kubelet reports it."""

    name: str
    ready: bool = False
    started: bool | None = False
    restart_count: int = 0
    image: str = ""
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()

    @property
    def running(self) -> bool:
        return self.state.running is not None

    @property
    def last_end(self) -> Terminated | None:
        """How it ended, most recently."""
        return self.state.terminated or self.last_state.terminated


_UNSEEN = Container(name="")


class PodCondition(Struct, frozen=True):
    """A condition of a pod."""

    type: str
    status: str = "Unknown"
    reason: str | None = ""
    message: str | None = ""


class Pod(Struct, frozen=True, kw_only=True):
    """A pod of ours."""

    name: str
    namespace: str
    uid: str
    ordinal: int = -1
    owner: str = ""
    """uid of the controlling owner."""
    hash: str = ""
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    node: str = ""
    ip: str = ""
    deleting: bool = False
    protected: bool = False
    conditions: dict[str, PodCondition] = {}
    containers: dict[str, Container] = {}
    images: dict[str, str] = {}
    volumes: tuple[str, ...] = ()
    """Claims and Secrets that it cannot start without."""

    @property
    def over(self) -> bool:
        """Whether it ended and holds no GPU any more."""
        return self.phase in ("Failed", "Succeeded")

    @property
    def ready(self) -> bool:
        found = self.conditions.get("Ready")
        return found is not None and found.status == "True" and not self.deleting and not self.over

    @property
    def relay(self) -> Container:
        return self.containers.get(RELAY, _UNSEEN)

    @property
    def worker(self) -> Container:
        return self.containers.get(WORKER, _UNSEEN)

    @property
    def fetches(self) -> bool:
        """Whether its model is still to be fetched, or being so."""
        end = self.fetcher.state.terminated
        return MODEL in self.images and (end is None or end.exit_code != 0)

    @property
    def by_weight(self) -> tuple[Container, ...]:
        """Its containers, the one first whose end says most; that a model was fetched says nothing."""
        return (self.worker, *([self.fetcher] if self.fetches else []), self.relay)

    @property
    def fetcher(self) -> Container:
        return self.containers.get(MODEL, _UNSEEN)

    @property
    def has_served(self) -> bool:
        """Whether its worker, as it runs now, has loaded its model: it may have requests in hand."""
        return bool(self.worker.started) and self.worker.running

    @property
    def restarts(self) -> int:
        return sum(container.restart_count for container in self.containers.values())


class Worker(Struct, frozen=True, kw_only=True):
    """An InferenceWorker as stored. `resource` is None when it cannot be read; `problem` says why."""

    namespace: str
    name: str
    uid: str
    generation: int
    deleting: bool = False
    resource: InferenceWorker | None = None
    problem: str = ""
    status: Status = msgspec.field(default_factory=Status)
    restarted_at: str = ""
    """The annotation of `kubectl rollout restart`, which makes new pods."""

    @property
    def is_furnished(self) -> bool:
        """Whether the Services of this spec were made: its status was written after them, and tells of no trouble.

        A new leader believes it: to apply all of them again at once would be its most expensive minute.
        """
        stalled = any(one.type == "Stalled" and one.status == "True" for one in self.status.conditions)
        return self.status.observed_generation == self.generation and not stalled


RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


def read_worker(body: dict[str, Any]) -> Worker:
    """Return a resource. What an older CRD let in that we cannot read is a problem, not an exception."""
    meta = body["metadata"]
    resource, problem = None, ""
    status = body.get("status")
    try:
        resource = msgspec.convert({**body, "status": None}, InferenceWorker)
    except msgspec.ValidationError as exc:
        problem = str(exc)
    return Worker(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=meta.get("generation", 0),
        deleting=bool(meta.get("deletionTimestamp")),
        resource=resource,
        problem=problem,
        status=_read_status(status),
        restarted_at=(meta.get("annotations") or {}).get(RESTARTED_AT, ""),
    )


def _read_status(raw: Any) -> Status:
    """Whatever stands there is replaced by us, so what cannot be read is nothing."""
    try:
        return msgspec.convert(raw or {}, Status)
    except msgspec.ValidationError:
        return Status()


def read_pod(body: dict[str, Any]) -> Pod:
    """Return a pod."""
    meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    seen = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    specs = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    owner: dict[str, Any] = next((ref for ref in meta.get("ownerReferences") or () if ref.get("controller")), {})
    return Pod(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        ordinal=_ordinal(labels.get(ORDINAL_LABEL, "")),
        owner=owner.get("uid", ""),
        hash=annotations.get(HASH_ANNOTATION, ""),
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        node=spec.get("nodeName") or "",
        ip=status.get("podIP") or "",
        deleting=bool(meta.get("deletionTimestamp")),
        protected=any(name in annotations for name in PROTECT_ANNOTATIONS),
        conditions={raw["type"]: msgspec.convert(raw, PodCondition) for raw in status.get("conditions") or ()},
        containers={raw["name"]: msgspec.convert(raw, Container) for raw in seen},
        images={raw["name"]: raw.get("image", "") for raw in specs if raw["name"] in (RELAY, MODEL, WORKER)},
        volumes=tuple(_needed(spec.get("volumes") or ())),
    )


def _needed(volumes: Iterable[dict[str, Any]]) -> Iterator[str]:
    for volume in volumes:
        if claim := volume.get("persistentVolumeClaim"):
            yield f"claim {claim['claimName']}"
        if secret := volume.get("secret"):
            yield f"Secret {secret.get('secretName', '')}"


def _ordinal(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,4}", text) else -1


class Told(Struct, frozen=True):
    """What a worker that gives up writes into its termination log: a reason of the table, and a sentence."""

    reason: str
    message: str = ""


def read_told(message: str) -> Told | None:
    """Return a worker's last words, None if they are somebody else's."""
    try:
        told = msgspec.json.decode(message.encode(), type=Told)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return told if told.reason in FAILURES else Told("EngineCrash", told.message)


def last_exit(container: Container) -> LastExit | None:
    """Return how a container ended last time, in the words of the status."""
    end = container.last_end
    if end is None:
        return None
    code = end.exit_code or (128 + end.signal if end.signal else 0)
    if told := read_told(end.message):
        return LastExit(reason=told.reason, code=code, message=told.message[-500:])
    return LastExit(reason=end.reason or ("Error" if code else "Completed"), code=code, message=end.message[-500:])

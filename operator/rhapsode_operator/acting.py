"""Take single steps: the calls to the API server that change something. Called by `executing`; decides nothing.

Every write can be repeated: creation and server-side apply under fixed names, deletion by uid. Nothing of others is
taken over: an object with one of our names that is not ours is `NameTaken`.
"""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from rhapsode_contract.names import KIND
from rhapsode_contract.resources import InferenceWorker
from rhapsode_operator.building import Blueprint, Body, build_claim, build_pod
from rhapsode_operator.errors import RefusedError, RetryableError
from rhapsode_operator.observing import PROTECT_ANNOTATIONS, Pod, Worker
from rhapsode_operator.planning import Removal

MANAGER = "rhapsode-operator"
COLLECTED_S = 1.0
"""How often we look whether Kubernetes has collected what an earlier resource left."""
_log = logging.getLogger("rhapsode.operator.act")


class Cluster(Protocol):
    """What we need of the API server."""

    async def apply(self, body: Body, *, manager: str, force: bool = True) -> Body: ...
    async def create(self, body: Body, *, manager: str) -> Body: ...
    async def annotate(self, namespace: str, pod: str, annotations: Mapping[str, str | None]) -> Body: ...
    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> bool: ...
    async def read(self, kind: str, namespace: str, name: str) -> Body | None: ...


class Hands:
    """Changes the objects of resources."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def create(self, blueprint: Blueprint, ordinal: int, pod_hash: str) -> None:
        """Make a pod, and its claim if it has one."""
        if claim := build_claim(blueprint.resource, ordinal):
            await self._make(claim)
        if await self._make(build_pod(blueprint, ordinal, pod_hash)):
            self._say("pod_created", blueprint.resource, pod=blueprint.pod_name(ordinal))

    async def _make(self, body: Body) -> bool:
        """Make an object; return False if it is there and ours. A pod or a claim that is there is left as it is."""
        try:
            await self._cluster.create(body, manager=MANAGER)
        except RetryableError as exc:
            if exc.status != 409:
                raise
            await self._find_ours(body, exc)
            return False
        return True

    async def remove(self, resource: InferenceWorker, removal: Removal) -> None:
        """Delete a pod; the kubelet runs its preStop hook within the grace period."""
        pod = removal.pod
        if await self._cluster.delete("Pod", pod.namespace, pod.name, pod.uid):
            self._say("pod_deleted", resource, pod=pod.name, why=removal.why)

    async def furnish(self, body: Body, *, known: bool) -> None:
        """Make a Service or a disruption budget so. `known`: that it is ours was seen before."""
        await (self._apply(body) if known else self._secure(body))

    async def protect(self, pod: Pod, *, protected: bool) -> None:
        """Ask autoscalers to leave a pod alone, or no longer."""
        wanted: dict[str, str | None] = {
            name: value if protected else None for name, value in PROTECT_ANNOTATIONS.items()
        }
        await self._cluster.annotate(pod.namespace, pod.name, wanted)

    async def _secure(self, body: Body) -> None:
        """Make an object, or make ours so. To apply it at once would merge it into one that another made."""
        if not await self._make(body):
            await self._cluster.apply(body, manager=MANAGER, force=True)

    async def _apply(self, body: Body) -> None:
        """Apply without force first: a conflict is ours to settle only if the object is ours."""
        try:
            await self._cluster.apply(body, manager=MANAGER, force=False)
        except (RetryableError, RefusedError) as exc:
            if exc.status not in (409, 422):
                raise
            await self._settle(body, exc)

    async def _settle(self, body: Body, why: RetryableError | RefusedError) -> None:
        await self._find_ours(body, why)
        if why.status != 409:
            raise why
        await self._cluster.apply(body, manager=MANAGER, force=True)

    async def _find_ours(self, body: Body, why: RetryableError | RefusedError) -> None:
        """Return if the object that is there is ours, and not another's of the same name.

        What an earlier resource of that name leaves behind is collected in a moment, and not ours meanwhile.
        """
        metadata = body["metadata"]
        found = await self._cluster.read(body["kind"], metadata["namespace"], metadata["name"])
        if found is None:
            raise RetryableError(why.message, reason="Gone", status=409)
        kind, name, ours = body["kind"], metadata["name"], metadata["ownerReferences"][0]
        owner = _owner(found)
        if owner.get("uid") == ours["uid"]:
            return
        if (owner.get("kind"), owner.get("name")) == (ours["kind"], ours["name"]):
            said = f"{kind} {name} is an earlier {KIND}'s and not gone yet"
            raise RetryableError(said, reason="Collecting", status=409, retry_after_s=COLLECTED_S)
        whose = f"{owner['kind']} {owner['name']} has it" if owner else f"no {KIND} made it"
        raise RefusedError(f"{kind} {name} exists and is not ours: {whose}", reason="NameTaken", status=409) from why

    @staticmethod
    def _say(event: str, resource: InferenceWorker, **facts: Any) -> None:
        facts |= {"event": event, "namespace": resource.metadata.namespace, "name": resource.metadata.name}
        _log.info("%s %s", event.replace("_", " "), facts.get("pod"), extra={"facts": facts})


def _owner(found: Body) -> Body:
    owners = found["metadata"].get("ownerReferences") or ()
    return next((one for one in owners if one.get("controller")), {})


def key_of(worker: Worker) -> tuple[str, str]:
    """Return the key of a resource."""
    return worker.namespace, worker.name

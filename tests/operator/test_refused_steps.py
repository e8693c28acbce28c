"""One resource, look by look, when steps are refused: the others are taken, all is told, and nothing is tried for ever."""

import asyncio
from typing import Any

import pytest

from rhapsode_operator.errors import ForbiddenError, RefusedError, RetryableError
from rhapsode_operator.observing import PROTECT_ANNOTATIONS, Pod
from rhapsode_operator.planning import DrainSeen
from rhapsode_operator.queueing import Key, Queue
from rhapsode_operator.weighing import TAKEN_S
from support import virtual_time
from support.fake_cluster import FakeCluster
from support.processes import DEADLINE_S
from support.reconcilers import KEY, Meter, Reconciling, become, cluster_with, reconciling
from support.snapshots import SERVING, resource

JSON = dict[str, Any]
FAILED = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no healthy GPU"}
INVALID = RefusedError('Pod "w-0" is invalid: spec.priority: Forbidden (422)', reason="Invalid", status=422)
QUOTA = ForbiddenError('pods "w-0" is forbidden: exceeded quota: gpus (403)', reason="Forbidden", status=403)
BUSY = RetryableError("etcd is busy (500)", reason="InternalError", status=500)


async def test_a_pod_that_is_refused_stalls_with_the_words_of_the_api_server() -> None:
    cluster = cluster_with()
    cluster.refusals["create", "Pod"] = INVALID
    async with reconciling(cluster) as operator:
        assert await operator.refuse() is INVALID
        stalled = operator.condition("Stalled")
        assert (stalled.status, stalled.reason) == ("True", "InvalidSpec")
        assert "spec.priority: Forbidden" in stalled.message
        assert "Correct the spec" in stalled.message
        assert operator.status.phase == "Failed"
        assert operator.status.observed_generation == 1
        cluster.calls.clear()
        await operator.refuse()
        assert cluster.count("status") == 0, "the same is not told again"
    assert operator.reasons() == ["Warning InvalidSpec"]


async def test_a_refusal_that_is_over_leaves_no_trace() -> None:
    cluster = cluster_with()
    cluster.refusals["create", "Pod"] = INVALID
    async with reconciling(cluster) as operator:
        await operator.refuse()
        cluster.refusals.clear()
        await operator.run(2)
        assert operator.condition("Stalled").status == "False"


async def test_what_the_role_or_a_quota_forbids_is_told() -> None:
    cluster = cluster_with()
    cluster.refusals["create", "Pod"] = QUOTA
    async with reconciling(cluster) as operator:
        assert isinstance(await operator.refuse(), ForbiddenError)
        assert operator.condition().reason == "Forbidden"
        assert "exceeded quota" in operator.condition().message
    assert operator.reasons() == ["Warning Forbidden"]


async def test_one_refused_pod_does_not_keep_the_others_from_being_made() -> None:
    cluster = cluster_with(replicas=3)
    create = cluster.create

    async def picky(body: JSON, *, manager: str) -> JSON:
        if body["metadata"]["name"] == "w-0":
            raise QUOTA
        await asyncio.sleep(0.01)
        return await create(body, manager=manager)

    cluster.create = picky  # type: ignore[method-assign]
    async with reconciling(cluster) as operator:
        await operator.refuse()
        assert cluster.names("Pod") == ["w-1", "w-2"], "made before reconcile returned"


async def test_a_status_that_cannot_be_written_is_tried_again_and_its_event_is_one() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await operator.run(2)
        become(cluster, "w-0", SERVING)
        cluster.refusals["status", "InferenceWorker"] = BUSY
        for _ in range(3):
            assert await operator.refuse() is BUSY
            operator.now += 1
        cluster.refusals.clear()
        await operator.run(2)
        assert operator.status.phase == "Ready"
    assert operator.reasons() == ["Normal AllReplicasReady"]


def hour(cluster: FakeCluster) -> None:
    """Let a queue work for an hour of virtual time; what the cluster's watch tells comes back to it."""

    async def scene() -> None:
        queue = Queue(Meter(), resync_s=600)
        cluster.on_change = lambda key: queue.add(key) if key == KEY else None
        async with reconciling(cluster) as operator:
            await work(queue, operator)

    virtual_time.run(scene())


async def work(queue: Queue, operator: Reconciling) -> None:
    async def look(key: Key) -> float | None:
        operator.now = asyncio.get_running_loop().time()
        return await operator.reconciler.reconcile(key)

    task = asyncio.create_task(queue.run(look, 2))
    queue.add(KEY)
    await asyncio.sleep(3600)
    queue.close()
    await asyncio.wait_for(task, 60)


def test_a_spec_that_is_refused_is_not_tried_again_and_again() -> None:
    cluster = cluster_with()
    cluster.refusals["create", "Pod"] = INVALID
    hour(cluster)
    assert 1 <= cluster.count("create", "Pod") <= 8, "at a resync"
    assert cluster.count("status") == 1


def test_what_is_forbidden_is_tried_every_five_minutes() -> None:
    cluster = cluster_with()
    cluster.refusals["create", "Pod"] = QUOTA
    hour(cluster)
    assert 10 <= cluster.count("create", "Pod") <= 15
    assert cluster.count("status") == 1


def test_a_name_that_is_taken_is_looked_at_now_and_then() -> None:
    cluster = cluster_with()
    cluster.put({"kind": "Service", "metadata": {"name": "w"}, "spec": {}})
    hour(cluster)
    assert 10 <= cluster.count("create", "Service") <= 300
    assert cluster.count("status") <= 3


def stranger(kind: str, name: str) -> JSON:
    return {"kind": kind, "metadata": {"name": name, "labels": {}}, "spec": {}}


async def test_one_name_that_is_taken_costs_the_other_pods_nothing() -> None:
    cluster = cluster_with(replicas=3)
    cluster.put(stranger("Pod", "w-1"))
    async with reconciling(cluster) as operator:
        assert (await operator.refuse()).reason == "NameTaken"
        assert (cluster.names("Service"), cluster.names("PodDisruptionBudget")) == (["w", "w-pods"], ["w"])
        for name in ("w-0", "w-2"):
            become(cluster, name, SERVING)
        await operator.run()
        for name in ("w-0", "w-2"):
            assert PROTECT_ANNOTATIONS.keys().isdisjoint(cluster.get("Pod", name)["metadata"]["annotations"])
        assert (operator.status.phase, operator.status.ready_replicas) == ("Degraded", 2)
        assert operator.status.endpoint == "http://w.ns.svc:8080"


async def test_there_is_no_endpoint_while_its_name_is_taken() -> None:
    cluster = cluster_with()
    cluster.put(stranger("Service", "w"))
    async with reconciling(cluster) as operator:
        await operator.refuse()
        assert (operator.status.endpoint, cluster.names("Service"), cluster.names("Pod")) == (
            "",
            ["w", "w-pods"],
            ["w-0"],
        )
        cluster.vanish("Service", "w")
        operator.now += TAKEN_S
        await operator.run()
        assert operator.status.endpoint == "http://w.ns.svc:8080"


async def test_a_name_that_is_taken_is_not_tried_at_every_event_of_a_pod_but_at_a_new_spec() -> None:
    cluster = cluster_with(replicas=2)
    cluster.put(stranger("Pod", "w-1"))
    cluster.put(stranger("Service", "w-pods"))
    async with reconciling(cluster) as operator:
        await operator.refuse()
        cluster.calls.clear()
        again = await operator.run(12)
        assert (cluster.count("create"), cluster.count("apply")) == (0, 0), (
            "and nothing is raised, which would be logged"
        )
        assert again is not None
        assert 25 < again < TAKEN_S
        assert operator.condition("Stalled").reason == "NameTaken"
        found = cluster.get("InferenceWorker", "w")
        cluster.put(found | {"metadata": found["metadata"] | {"generation": 2}})
        await operator.refuse()
        assert (cluster.count("create", "Pod"), cluster.count("create", "Service")) == (1, 1)


async def test_what_waits_for_its_time_does_not_wait_for_what_is_forbidden() -> None:
    cluster = cluster_with(replicas=2)
    async with reconciling(cluster) as operator:
        await operator.run(2)
        become(cluster, "w-0", FAILED)
        cluster.vanish("Pod", "w-1")
        for error in (QUOTA, INVALID):
            cluster.refusals["create", "Pod"] = error
            operator.later.after.clear()
            assert await operator.refuse() is error
            assert 9 < min(operator.later.after) <= 10, "then the failed pod is replaced"


class Relays:
    """Relays that answer only when all have been asked."""

    def __init__(self, count: int) -> None:
        self.all = asyncio.Barrier(count)
        self.drains = 0

    async def drain(self, _pod: Pod) -> DrainSeen:
        await self.all.wait()
        self.drains += 1
        return DrainSeen(1, 0)


async def test_relays_are_asked_all_at_once_and_after_the_status_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cluster_with(replicas=13)
    async with reconciling(cluster) as operator:
        await operator.run()
        for pod in cluster.pods(KEY):
            become(cluster, pod.name, SERVING)
        await operator.run()
        cluster.put(resource(replicas=13, suspend=True))
        relays = Relays(14)
        monkeypatch.setattr(operator.reconciler.telemetry, "drain", relays.drain)
        looking = asyncio.create_task(operator.run())
        async with asyncio.timeout(DEADLINE_S):
            while relays.all.n_waiting < 13:
                await asyncio.sleep(0)
            assert (operator.status.phase, relays.drains) == ("Draining", 0)
            await relays.all.wait()
            assert await looking == 2, "and looked at again soon"
        assert relays.drains == 13

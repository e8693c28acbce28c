"""One resource, look by look, where a real API server is hard to bring to: refusals, strangers, a watch that is behind."""

import asyncio
from typing import Any

import pytest

from rhapsode_contract import events
from rhapsode_contract.statuses import Status
from rhapsode_operator.cases import MAX_STAGES
from rhapsode_operator.errors import ForbiddenError, RefusedError, RetryableError
from rhapsode_operator.observing import PROTECT_ANNOTATIONS, Pod
from rhapsode_operator.planning import DrainSeen
from rhapsode_operator.queueing import Key, Queue
from rhapsode_operator.weighing import TAKEN_S
from support import virtual_time
from support.fake_cluster import FakeCluster
from support.reconcilers import KEY, Meter, Reconciling, become, cluster_with, reconciling
from support.snapshots import LOADING, RAN, SERVING, container, opening, resource, told

JSON = dict[str, Any]
FAILED = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no healthy GPU"}
INVALID = RefusedError('Pod "w-0" is invalid: spec.priority: Forbidden (422)', reason="Invalid", status=422)
QUOTA = ForbiddenError('pods "w-0" is forbidden: exceeded quota: gpus (403)', reason="Forbidden", status=403)
BUSY = RetryableError("etcd is busy (500)", reason="InternalError", status=500)


# The usual way


async def test_a_resource_becomes_pods_services_a_budget_and_a_status() -> None:
    cluster = cluster_with(replicas=2)
    async with reconciling(cluster) as operator:
        await operator.run()
        assert cluster.names("Pod") == ["w-0", "w-1"]
        assert cluster.names("Service") == ["w", "w-pods"]
        assert cluster.names("PodDisruptionBudget") == ["w"]
        await operator.run()
        assert operator.condition().reason == "Scheduling"
        for name in ("w-0", "w-1"):
            become(cluster, name, SERVING)
        await operator.run()
        assert (operator.status.phase, operator.status.ready_replicas) == ("Ready", 2)
        assert operator.meter.phases == {"Ready": 1}
    assert operator.reasons() == ["Normal AllReplicasReady"]


async def test_what_is_as_wanted_is_written_no_more() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await operator.run(2)
        become(cluster, "w-0", SERVING)
        await operator.run(3)
        before = len(cluster.calls)
        assert await operator.run(5) is None
        operator.now += 100
        await operator.run()
        assert cluster.calls[before:] == []
        operator.now += 600
        await operator.run()
        assert {verb for verb, _, _ in cluster.calls[before:]} == {"apply"}, "what nobody watches is made so again"


async def test_a_status_is_not_written_twice_while_the_watch_has_not_told_of_it() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await operator.run()
        cluster.freeze()
        cluster.calls.clear()
        await operator.run(10)
        assert cluster.count("status") <= 1
        cluster.thaw()
        await operator.run(10)
        assert cluster.count("status") <= 1


async def test_an_operator_that_starts_anew_finds_everything_done() -> None:
    cluster = cluster_with(replicas=2)
    async with reconciling(cluster) as first:
        await first.run(2)
        for name in ("w-0", "w-1"):
            become(cluster, name, SERVING)
        await first.run(2)
    before, told = dict(cluster.objects), len(cluster.events)
    cluster.calls.clear()
    async with reconciling(cluster) as second:
        await second.run(3)
        assert cluster.objects == before, "nothing changed, not even a version"
        assert cluster.calls == [], "a new leader of a thousand resources burdens nobody"
        second.now += 600
        await second.run()
        assert {verb for verb, _, _ in cluster.calls} == {"apply"}, "a Service that went meanwhile comes back"
    assert len(cluster.events) == told


async def test_a_pod_is_deleted_once_while_the_watch_has_not_told_of_it() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await operator.run(2)
        become(cluster, "w-0", FAILED)
        await operator.run()
        operator.now += 11
        cluster.freeze()
        await operator.run(5)
        assert cluster.count("delete", "Pod") == 1
        assert operator.reconciler._cases[KEY].failures == {"w-0": 1}
        cluster.thaw()
        await operator.run(2)
        assert operator.status.workers[0].replaced == 1


async def test_each_load_stage_of_each_load_is_announced_once_however_short() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await operator.run(2)
        pod = cluster.pods(KEY)[0]
        loads = [events.Load(seq=1, stage=stage) for stage in ("importing", "loading weights")]
        operator.reconciler.telemetry.tales[pod.uid] = told(opening("loading"), *loads)
        await operator.run()
        again = container("worker", RAN, restarts=1, last={"terminated": {"exitCode": 1}})
        become(cluster, "w-0", SERVING | {"containerStatuses": [again]})
        operator.reconciler.telemetry.tales[pod.uid] = told(opening("loading"), *loads)
        operator.reconciler.telemetry._of_key.clear()  # as if its relay had answered
        await operator.run()
    notes = [one["note"] for one in cluster.events if one["reason"] == "LoadStage"]
    assert notes == ["w-0: importing", "w-0: loading weights"] * 2


async def test_an_engine_that_never_tires_of_new_stages_makes_few_events() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await operator.run(2)
        pod = cluster.pods(KEY)[0]
        for number in range(100):
            load = events.Load(seq=1, stage=f"layer {number}")
            operator.reconciler.telemetry.tales[pod.uid] = told(opening("loading"), load)
            operator.reconciler.telemetry._of_key.clear()
            await operator.run()
        again = container("worker", RAN, restarts=1, last={"terminated": {"exitCode": 1}})
        become(cluster, "w-0", SERVING | {"containerStatuses": [again]})
        operator.reconciler.telemetry.tales[pod.uid] = told(opening("loading"), events.Load(seq=1, stage="layer 0"))
        operator.reconciler.telemetry._of_key.clear()
        await operator.run()
        case = operator.reconciler._cases[KEY]
        assert len(case.stages[pod.uid].said) == 1
    assert sum(one["reason"] == "LoadStage" for one in cluster.events) == MAX_STAGES + 1


# Refusals


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
        async with asyncio.timeout(10):
            while relays.all.n_waiting < 13:
                await asyncio.sleep(0)
            assert (operator.status.phase, relays.drains) == ("Draining", 0)
            await relays.all.wait()
            assert await looking == 2, "and looked at again soon"
        assert relays.drains == 13


# What stands when


async def test_a_pod_that_has_just_become_ready_is_told_loaded_first() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await operator.run(2)
        uid = cluster.pods(KEY)[0].uid
        become(cluster, "w-0", LOADING)
        await operator.run()
        at_89 = told(opening("loading"), events.Load(seq=1, stage="warming up", percent=89), at=operator.now)
        operator.reconciler.telemetry.tales[uid] = at_89
        operator.now += 1
        await operator.run()
        assert row(operator.status) == ("Loading", "warming up 89%")
        stood: list[tuple[str, str]] = []
        cluster.on_change = lambda _: stood.append(row(operator.status))
        become(cluster, "w-0", SERVING)
        operator.reconciler.telemetry.tales[uid] = at_89
        await operator.run()
    assert ("Ready", "loaded") in stood
    assert ("Ready", "warming up 89%") not in stood


def row(status: Status) -> tuple[str, str]:
    return status.phase or "", status.load.summary if status.load else ""


# Not readable, or going


async def test_a_resource_that_cannot_be_read_is_told_so_and_its_pods_stay() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await operator.run(2)
        become(cluster, "w-0", SERVING)
        await operator.run(2)
        cluster.calls.clear()
        broken = {"metadata": cluster.get("InferenceWorker", "w")["metadata"], "spec": {"model": {}}}
        cluster.put(cluster.get("InferenceWorker", "w") | broken)
        assert await operator.run(3) is None
        assert operator.condition("Stalled").reason == "InvalidSpec"
        assert "source" in operator.condition("Stalled").message
        assert (operator.status.ready_replicas, cluster.names("Pod")) == (1, ["w-0"])
        assert cluster.calls == [("status", "InferenceWorker", "w")]
    assert operator.reasons()[-1] == "Warning InvalidSpec"


async def test_a_resource_that_goes_is_left_to_kubernetes() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await operator.run(2)
        going = resource()
        going["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z"
        cluster.put(going)
        cluster.calls.clear()
        assert await operator.run() is None
        cluster.vanish("InferenceWorker", "w")
        assert await operator.run() is None
        assert cluster.calls == []
        assert operator.meter.phases == {}


# Autoscalers


async def protection(operator: Reconciling, cluster: FakeCluster) -> tuple[int, int]:
    """Return how many protecting annotations a pod has while it loads, and when it serves."""
    await operator.run(2)
    loading = PROTECT_ANNOTATIONS.keys() & cluster.get("Pod", "w-0")["metadata"]["annotations"].keys()
    become(cluster, "w-0", SERVING)
    await operator.run(2)
    return len(loading), len(PROTECT_ANNOTATIONS.keys() & cluster.get("Pod", "w-0")["metadata"]["annotations"].keys())


async def test_a_pod_is_protected_while_it_loads_and_no_longer() -> None:
    own = {"metadata": {"annotations": {"karpenter.sh/do-not-disrupt": "true"}}}
    for spec, wanted in (
        ({}, (2, 0)),
        ({"disruption": {"protectLoad": False}}, (0, 0)),
        ({"podTemplate": own}, (1, 1)),
    ):
        cluster = cluster_with(**spec)
        async with reconciling(cluster) as operator:
            assert await protection(operator, cluster) == wanted

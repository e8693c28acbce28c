"""One resource, look by look, where a real API server is hard to bring to: refusals, strangers, a watch that is behind."""

from typing import Any

from rhapsode_contract import events
from rhapsode_contract.statuses import Status
from rhapsode_operator.cases import MAX_STAGES
from rhapsode_operator.observing import PROTECT_ANNOTATIONS
from support.fake_cluster import FakeCluster
from support.reconcilers import KEY, Reconciling, become, cluster_with, reconciling
from support.snapshots import LOADING, RAN, SERVING, container, opening, resource, told

JSON = dict[str, Any]
FAILED = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no healthy GPU"}


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
        assert operator.meter.conditions[KEY]["Ready"] == "AllReplicasReady"
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

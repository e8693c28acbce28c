"""Telemetry's part of a status: written under the budget, and left alone until somebody tells something."""

from rhapsode_contract import events
from rhapsode_contract.frames import Gpu
from rhapsode_operator.tales import Tale
from support.fake_cluster import FakeCluster
from support.reconcilers import KEY, Reconciling, become, cluster_with, reconciling
from support.snapshots import RAN, SERVING, container, opening, resource, told

GPU = Gpu(uuid="GPU-0", name="H200", total_bytes=2**37, used_bytes=2**36)
READY = opening("ready", vram=events.VramState(source="nvml", observed_at="2026-11-21T10:00:00.000Z", gpus=[GPU]))


def tell(operator: Reconciling, tale: Tale) -> Tale:
    """Let the relay of `w-0` have told this, a second later."""
    operator.now += 1
    telemetry = operator.reconciler.telemetry
    telemetry.tales[operator.cluster.pods(KEY)[0].uid] = tale
    return tale


async def serving(cluster: FakeCluster, operator: Reconciling) -> None:
    await operator.run(2)
    become(cluster, "w-0", SERVING)
    await operator.run()


async def test_what_a_worker_tells_is_in_the_status_beside_the_operators_part() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await serving(cluster, operator)
        tell(operator, told(READY))
        await operator.run(3)
        assert operator.status.vram is not None
        assert operator.status.vram.summary == "64.0/128 GiB"
        (pod,) = operator.status.workers
        assert pod.load is not None
        assert (pod.ready, pod.load.summary) == (True, "loaded")
        assert operator.meter.written.count("rhapsode-telemetry") == 1


async def test_an_operator_that_starts_anew_leaves_the_telemetry_until_a_relay_answers() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as first:
        await serving(cluster, first)
        tell(first, told(READY))
        await first.run(2)
    async with reconciling(cluster) as second:
        tell(second, Tale(since=second.now, lost_at=second.now))
        await second.run(3)
        assert second.status.vram is not None
        assert second.meter.written == []
        tell(second, told(READY))
        await second.run(2)
        assert second.meter.written == [], "it tells what stands there already"


async def test_telemetry_of_pods_that_are_gone_is_taken_back() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await serving(cluster, operator)
        tell(operator, told(READY))
        await operator.run(2)
        cluster.put(
            cluster.get("InferenceWorker", "w")
            | {"spec": {"model": {"source": "builtin://simulator"}, "suspend": True}}
        )
        cluster.vanish("Pod", "w-0")
        await operator.run(2)
        operator.now += 1
        await operator.run(2)
        assert (operator.status.vram, operator.status.load, operator.status.workers) == (None, None, [])
        assert operator.status.phase == "Suspended"


async def test_a_status_that_reached_a_successor_is_taken_back_until_the_watch_tells_of_it() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await serving(cluster, operator)
        tell(operator, told(READY))
        cluster.freeze()
        cluster.vanish("InferenceWorker", "w")
        cluster.put(resource(uid="successor"))
        for _ in range(2):
            assert (await operator.refuse()).reason == "Replaced", "so that the queue comes again"
        assert cluster.get("InferenceWorker", "w").get("status", {}) == {}
        written = cluster.count("status")
        await operator.refuse()
        assert cluster.count("status") == written, "it is not written over and over"
        cluster.thaw()
        for kind, _, name in set(cluster.objects) - {("InferenceWorker", "ns", "w")}:
            cluster.vanish(kind, name)
        await operator.run(3)
        assert operator.condition().reason == "Scheduling"


async def test_progress_waits_for_the_budget_and_says_when_to_come_back() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as operator:
        await operator.run(2)
        tale = tell(operator, told(opening("loading"), events.Load(seq=1, stage="weights", percent=10)))
        await operator.run(2)
        written = operator.meter.written.count("rhapsode-telemetry")
        tale.hear(events.Load(seq=2, stage="weights", percent=50), operator.now)
        again = await operator.run()
        assert operator.meter.written.count("rhapsode-telemetry") == written
        assert again is not None
        assert again <= 30
        operator.now += 31
        await operator.run()
        assert operator.status.load is not None
        assert operator.status.load.percent == 50


async def test_what_a_relay_told_is_not_told_again_by_the_next_operator() -> None:
    cluster = cluster_with()
    failed = opening("failed", reason="BadEngineOption", message="no option kvCache")
    loading = SERVING | {"conditions": [], "containerStatuses": [container("worker", RAN)]}
    async with reconciling(cluster) as first:
        await first.run(2)
        become(cluster, "w-0", loading)
        tell(first, told(failed))
        await first.run(2)
        assert first.condition().reason == "BadEngineOption"
    before, events_before = cluster.get("InferenceWorker", "w"), list(cluster.events)
    async with reconciling(cluster) as second:
        tell(second, Tale(since=second.now, lost_at=second.now))
        again = await second.run(3)
        assert again is not None
        assert again <= 21, "a relay that stays away will be told of"
        tell(second, told(failed))
        await second.run(3)
    assert cluster.get("InferenceWorker", "w")["status"] == before["status"]
    assert cluster.events == events_before


async def test_a_relay_that_never_answers_the_next_operator_is_told_of() -> None:
    cluster = cluster_with()
    async with reconciling(cluster) as first:
        await serving(cluster, first)
    loading = SERVING | {"conditions": [], "containerStatuses": [container("worker", RAN)]}
    become(cluster, "w-0", loading)
    async with reconciling(cluster) as second:
        tell(second, Tale(since=second.now, lost_at=second.now))
        await second.run()
        assert second.condition().reason == "AllReplicasReady", "not yet"
        second.now += 21
        await second.run()
        assert second.condition().reason == "RelayUnreachable"

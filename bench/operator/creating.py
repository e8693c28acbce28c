"""Scenes in which resources are created, and no node is there: one at a time, and many at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from statistics import quantiles
from typing import NamedTuple

from bench.operator.calling import Caller
from bench.operator.following import PATIENCE_S, View, following
from bench.operator.resources import PODS, RESOURCES, SERVICES, Seen, names
from bench.operator.staging import Operator, Stage, stage

LOOK_S = 0.25
"""How often is counted what there is."""


class Spread(NamedTuple):
    """Median and 99th percentile."""

    p50: float
    p99: float


def spread(values: list[float]) -> Spread:
    """Return how values spread."""
    cuts = quantiles(values, n=100, method="inclusive")
    return Spread(cuts[49], cuts[98])


class Born(NamedTuple):
    """Milliseconds from the answer to the creation to the pod, and to the status that tells of it."""

    pod: Spread
    status: Spread


async def one_by_one(count: int) -> Born:
    """Create resources one at a time."""
    with stage() as scene, scene.leader():
        async with scene.caller() as api, following(api, RESOURCES, PODS) as view:
            await _create(api, view, "warm")
            taken = [await _create(api, view, name) for name in names(count)]
    return Born(spread([pod for pod, _ in taken]), spread([status for _, status in taken]))


async def _create(api: Caller, view: View, name: str) -> tuple[float, float]:
    await api.create(name)
    began = time.perf_counter()
    told = await view.until(lambda: name in view.workers and is_told(view.workers[name]), f"{name} is told of", 60)
    pod = view.born[f"{PODS}/{name}-0"]
    return (pod - began) * 1000, (told - began) * 1000


class Cpu(NamedTuple):
    """CPU seconds."""

    operator: float
    cluster: float
    """Of API server and etcd."""
    bench: float


class Burst(NamedTuple):
    """Seconds from the first request, and what that took."""

    created: float
    pods: float
    services: float
    told: float
    cpu: Cpu
    rss: float
    requests: float
    errors: float


async def burst(count: int) -> Burst:
    """Create many resources at once."""
    with stage() as scene, scene.leader() as operator:
        return await _burst(scene, operator, count)


async def _burst(scene: Stage, operator: Operator, count: int) -> Burst:
    """Look at counts, not at all objects: what the bench reads the API server must write."""
    async with scene.caller() as api:
        before, began = _cpu(operator), time.perf_counter()
        await api.create_all(names(count))
        created = time.perf_counter()
        pods, services, told = await asyncio.gather(
            _until(lambda: api.count(PODS), count),
            _until(lambda: api.count(SERVICES), 2 * count),
            _until(lambda: _statuses(operator), count),
        )
        cpu = (after - one for after, one in zip(_cpu(operator), before, strict=True))
        assert all(map(is_told, await api.list(RESOURCES))), "a status does not tell of its pod"
        created, pods, services, told = (moment - began for moment in (created, pods, services, told))
        requests = operator.total("rhapsode_kube_requests_total")
        return Burst(created, pods, services, told, Cpu(*cpu), operator.rss_mib(), requests, operator.errors())


async def _until(count: Callable[[], Awaitable[float]], wanted: int) -> float:
    """Return when there are as many as wanted."""
    async with asyncio.timeout(PATIENCE_S):
        while await count() < wanted:
            await asyncio.sleep(LOOK_S)
    return time.perf_counter()


async def _statuses(operator: Operator) -> float:
    return operator.metrics().get('rhapsode_status_writes_total{manager="rhapsode-operator"}', 0)


def _cpu(operator: Operator) -> Cpu:
    return Cpu(operator.cpu_s(), Stage.cluster_cpu_s(), time.process_time())


def is_told(worker: Seen) -> bool:
    """Return whether a status knows the spec and the pod."""
    status = worker.status
    return status is not None and status.replicas == 1 and status.observed_generation == worker.metadata.generation

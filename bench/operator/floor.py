"""What the API server alone takes for a burst: a bare loop that makes the same objects and writes the same statuses.

No watch, no queue, no decision. Bodies come from the operator's own builders.
"""

import asyncio
import time
from typing import NamedTuple

import msgspec

from bench.operator.calling import Caller, within
from bench.operator.resources import NAMESPACE, PODS, RESOURCES, SERVICES, names, resource
from bench.operator.staging import Stage, stage
from rhapsode_contract.records import timestamp
from rhapsode_contract.statuses import Status
from rhapsode_operator.building import Blueprint, Images, build_pod, build_services
from rhapsode_operator.kube import APPLY
from rhapsode_operator.observing import Worker, read_worker
from rhapsode_operator.planning import Wanted
from rhapsode_operator.projecting import Seen, project

IMAGES = Images(relay="relay:1", worker_cpu="worker:1", worker_tensorrt_llm="gpu:1")


class Floor(NamedTuple):
    """Seconds for all, and CPU seconds."""

    done: float
    cluster_cpu: float
    bench_cpu: float


async def floor(count: int) -> Floor:
    """Make so many resources with all that belongs to them."""
    with stage() as scene:
        async with scene.caller() as api:
            began, before, spent = time.perf_counter(), Stage.cluster_cpu_s(), time.process_time()
            await asyncio.gather(*(_make(api, name) for name in names(count)))
            done, own = time.perf_counter() - began, time.process_time() - spent
            return Floor(done, Stage.cluster_cpu_s() - before, own)


async def _make(api: Caller, name: str) -> None:
    worker = read_worker(msgspec.json.decode(await api.send("POST", within(RESOURCES), resource(name))))
    assert worker.resource is not None
    blueprint = Blueprint(resource=worker.resource, images=IMAGES)
    pod_hash = blueprint.pod_hash()
    await api.send("POST", within(PODS), msgspec.json.encode(build_pod(blueprint, 0, pod_hash)))
    services = map(msgspec.json.encode, build_services(worker.resource))
    await asyncio.gather(*(api.send("POST", within(SERVICES), body) for body in services))
    path = f"{within(RESOURCES)}/{name}/status?fieldManager=rhapsode-operator&force=true&fieldValidation=Strict"
    await api.send("PATCH", path, _status(worker, pod_hash), APPLY)


def _status(worker: Worker, pod_hash: str) -> bytes:
    status = project(Seen(worker, Wanted(1, pod_hash), [], {}, {}, {}), timestamp(), Status())
    metadata = {"name": worker.name, "namespace": NAMESPACE}
    api_version, kind = worker.resource.api_version, worker.resource.kind  # type: ignore[union-attr]
    return msgspec.json.encode(
        {"apiVersion": api_version, "kind": kind, "metadata": metadata, "status": msgspec.to_builtins(status)}
    )

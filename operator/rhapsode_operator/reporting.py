"""Make the part of the status that workers tell: load, VRAM, narration. Called by `reconciling`. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rhapsode_contract.frames import Gpu
from rhapsode_contract.records import timestamp
from rhapsode_contract.statuses import GpuStatus, LoadStatus, NarrationStatus, ReplicaStatus, Status, VramStatus
from rhapsode_operator import budgeting
from rhapsode_operator.budgeting import Gauge
from rhapsode_operator.observing import Pod
from rhapsode_operator.projecting import used_share
from rhapsode_operator.tales import Tale

Told = Sequence[tuple[Pod, Tale]]
"""Pods with what their relays tell, in the order of their ordinals."""


def report(told: Told, wall: float) -> Status:
    """Return telemetry's part of the status; `wall` is the present, in seconds since the epoch."""
    loads = {pod.name: load_status(pod, tale, wall) for pod, tale in told}
    known = [load for load in loads.values() if load is not None]
    return Status(
        load=min(known, key=_progress, default=None),
        vram=_vram(told),
        narration=_narration(told),
        workers=[ReplicaStatus(pod=name, load=load) for name, load in loads.items() if load is not None],
    )


def stands(fresh: Status, standing: Status) -> bool:
    """Return whether what an operator before us wrote needs no write: figures differ by less than a step."""
    return _gist(fresh) == _gist(standing) and not budgeting.has_moved(_used(standing), _used(fresh))


def _gist(status: Status) -> tuple[object, ...]:
    loads = {one.pod: (one.load.stage, one.load.percent) for one in status.workers if one.load}
    vram, narration = status.vram, status.narration
    gpus = [gpu.uuid for gpu in vram.gpus] if vram else None
    return loads, vram and vram.source, gpus, narration and narration.text


def _used(status: Status) -> float | None:
    """Return the percentage of memory that is used."""
    vram = status.vram
    return 100 * (vram.used_mib or 0) / vram.total_mib if vram and vram.total_mib else None


def gauge(told: Told, now: float) -> Gauge:
    """Return what the write budget looks at."""
    loading = [tale for _, tale in told if tale.load is not None]
    percents = [tale.load.percent for tale in loading if tale.load and tale.load.percent is not None]
    gpus = [gpu for _, tale in told if tale.vram for gpu in tale.vram.gpus if gpu.healthy]
    phases = [f"{pod.uid}:{tale.phase}:{_health(tale)}" for pod, tale in told]
    began = [tale.load_began for tale in loading if tale.load_began is not None]
    total = sum(gpu.total_bytes for gpu in gpus)
    return Gauge(
        phase=" ".join(phases),
        stage=" ".join(tale.load.stage if tale.load else "-" for _, tale in told),
        alarms=sum(tale.alarm for _, tale in told),
        percent=min(percents, default=None),
        used_share=100 * sum(used_share(gpu) * gpu.total_bytes for gpu in gpus) / total if total else None,
        load_s=now - min(began) if began else 0.0,
        ready=sum(pod.ready for pod, _ in told),
    )


def _health(tale: Tale) -> str:
    """Return who measures and which GPUs are ill: that is worth a write at once."""
    if tale.vram is None:
        return ""
    return ",".join([tale.vram.source, *(gpu.uuid for gpu in tale.vram.gpus if not gpu.healthy)])


def load_status(pod: Pod, tale: Tale, wall: float) -> LoadStatus | None:
    """Return how far a pod's load is."""
    if pod.ready or tale.phase == "ready":
        return LoadStatus(stage="loaded", percent=100, summary="loaded")
    if tale.load is None:
        return None
    load = tale.load
    percent = None if load.percent is None else int(load.percent)
    eta = "" if load.eta_s is None else _moment(wall + load.eta_s)
    summary = load.stage if percent is None else f"{load.stage} {percent}%"
    return LoadStatus(stage=load.stage, percent=percent, eta=eta, since=load.since, summary=summary)


def _progress(load: LoadStatus) -> tuple[bool, int]:
    return load.stage == "loaded", load.percent or 0


def _vram(told: Told) -> VramStatus | None:
    states = [(pod, tale.vram) for pod, tale in told if tale.vram is not None]
    if not states:
        return None
    observed_at = max(vram.observed_at for _, vram in states)
    gpus = [_gpu(pod.name, gpu) for pod, vram in states for gpu in vram.gpus]
    if not gpus:
        unsupported = any(vram.source == "unsupported" for _, vram in states)
        return VramStatus(source="unsupported" if unsupported else "none", summary="n/a", observed_at=observed_at)
    healthy = [gpu for gpu in gpus if gpu.healthy]
    if not healthy:
        return VramStatus(source="nvml", summary="n/a", gpus=gpus, observed_at=observed_at)
    used, total = sum(gpu.used_mib for gpu in healthy), sum(gpu.total_mib for gpu in healthy)
    return VramStatus(
        source="nvml",
        summary=f"{used / 1024:.1f}/{total / 1024:.0f} GiB",
        used_mib=used,
        total_mib=total,
        gpus=gpus,
        observed_at=observed_at,
    )


def _gpu(pod: str, gpu: Gpu) -> GpuStatus:
    reserved = None if gpu.reserved_bytes is None else round(gpu.reserved_bytes / 2**20)
    return GpuStatus(
        uuid=gpu.uuid,
        pod=pod,
        name=gpu.name,
        used_mib=round(gpu.used_bytes / 2**20),
        total_mib=round(gpu.total_bytes / 2**20),
        reserved_mib=reserved,
        utilization=None if gpu.utilization is None else round(100 * gpu.utilization),
        healthy=gpu.healthy,
        trouble=gpu.trouble,
    )


def _narration(told: Told) -> NarrationStatus | None:
    said = [tale.narration for _, tale in told if tale.narration is not None and tale.narration.human]
    latest = max(said, key=lambda one: one.ts, default=None)
    return NarrationStatus(text=latest.human, since=latest.ts) if latest else None


def _moment(wall: float) -> str:
    return timestamp(datetime.fromtimestamp(round(wall), UTC).timestamp())

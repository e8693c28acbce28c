"""Look at the machine around an engine: CPUs, memory, shared memory, packages. Called by `checking`."""

import os
import platform
from importlib import metadata
from pathlib import Path

from rhapsode_contract.wording import UNITS
from rhapsode_worker.engines import ENGINES, find_engine, is_installed
from rhapsode_worker.errors import LoadError
from rhapsode_worker.selfcheck.findings import Finding, failure

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (what the processes of several GPUs share)
SHARED_MEMORY_BYTES = 2**30
_MEMORY = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
PACKAGES = {
    "OpenVINO": ("openvino-genai", "openvino", "openvino-tokenizers"),
    "Simulator": (),
    "TensorRTLLM": ("tensorrt_llm", "torch", "transformers", "tokenizers", "xgrammar", "flashinfer-python", "mpi4py"),
}
"""What an engine's version consists of, by the names of the package index."""


def look_at_machine() -> Finding:
    """Return what Python, system, CPUs and memory there are; nothing that tells whose they are."""
    total, available = _memory("MemTotal"), _memory("MemAvailable")
    limit = _memory_limit()
    cores = len(os.sched_getaffinity(0))
    words = [f"Python {platform.python_version()}", f"{platform.system()} {platform.release()} {platform.machine()}"]
    words.append(f"{cores} CPU{'' if cores == 1 else 's'}{_quota_words()}")
    if total and available:
        words.append(f"{UNITS['gib'](total)} of memory, {UNITS['gib'](available)} available")
    if limit:
        words.append(f"at most {UNITS['gib'](limit)} for this container")
    facts = {"cpus": cores, "memory_bytes": total, "available_bytes": available, "limit_bytes": limit}
    return Finding(measured=", ".join(words), facts=facts)


def look_at_shared_memory(engine: str) -> Finding:
    """Return how much room the processes of several GPUs have to talk."""
    try:
        room = os.statvfs(SHARED_MEMORY)
    except OSError as exc:
        remedy = "Give the pod a memory volume at /dev/shm, or docker run --shm-size 2g."
        return failure(f"{SHARED_MEMORY} cannot be used: {exc.strerror}", remedy)
    size, free = room.f_frsize * room.f_blocks, room.f_frsize * room.f_bavail
    facts = {"size_bytes": size, "free_bytes": free}
    measured = f"{SHARED_MEMORY} has {UNITS['gib'](size)}, {UNITS['gib'](free)} free"
    if engine != "TensorRTLLM" or free >= SHARED_MEMORY_BYTES:
        return Finding(measured=measured, facts=facts)
    remedy = "Several GPUs want 1 GiB: a memory volume at /dev/shm in a pod, --shm-size 2g with docker run."
    return Finding(outcome="warning", measured=measured, remedy=remedy, facts=facts)


def look_at_packages(engine: str) -> Finding:
    """Return the versions of an engine's packages, without importing any."""
    try:
        find_engine(engine)
    except LoadError as exc:
        here = ", ".join(filter(is_installed, ENGINES))
        remedy = f"Check it in the worker image that has it: docs/selfcheck.md. Here --engine may be {here}."
        return failure(exc.why, remedy, facts={"reason": exc.reason})
    found = {name: version for name in PACKAGES[engine] if (version := _version(name))}
    words = ", ".join(f"{name} {version}" for name, version in found.items())
    unknown = "part of this version" if not PACKAGES[engine] else "installed, without a version that can be read"
    return Finding(measured=words or unknown, facts={"versions": found})


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _memory(name: str) -> int | None:
    lines = _read(_MEMORY).splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _memory_limit() -> int | None:
    told = _read(_CGROUP / "memory.max").strip()
    return int(told) if told.isdigit() else None


def _quota_words() -> str:
    quota, _, period = _read(_CGROUP / "cpu.max").strip().partition(" ")
    return f" (a quota of {int(quota) / int(period):g})" if quota.isdigit() and period.isdigit() else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""

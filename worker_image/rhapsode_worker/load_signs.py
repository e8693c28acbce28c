"""What TensorRT-LLM prints while it loads, and what that tells: one table. Called by `watching_loads`. Pure.

It has no progress callback. The markers are those of public logs of 1.1.0rc3, 1.2.0rc2 and 1.3.0rc0, and of the
files of NVIDIA/TensorRT-LLM that a comment names; we have not seen the package print them. A line that none of them
knows tells nothing, and nothing else depends on any one of them. Its MPI processes print their `[TRT-LLM] [I]` lines
only where TLLM_LOG_LEVEL asks for them, which the adapter does.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Step(IntEnum):
    """What the engine does, in this order. It goes back to `KV_CACHE` once it has measured what is left."""

    IMPORTED = 1
    ARGUMENTS = 2
    SPAWN = 3
    ROOM = 4
    SKELETON = 5
    READ = 6
    LOAD = 7
    LOADED = 8
    KV_CACHE = 9
    AUTOTUNE = 10
    GRAPHS = 11
    MEASURED = 12
    SETTLED = 13


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What one line tells: the step, how far it is if the line says so, a size in bytes, and other facts."""

    step: Step
    fraction: float | None = None
    bytes_total: int | None = None
    facts: Mapping[str, int | float | str] = field(default_factory=dict)


_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_BAR = r".{0,300}? (?P<done>\d{1,9})/(?P<total>\d{1,9}) \[(?:[\d:]{1,12}<(?P<eta_s>[\d:]{1,12}))?"
_KV_LEFT = rf"(?P<gib>{_NUMBER}) GiB"

MARKERS: tuple[tuple[Step, re.Pattern[str]], ...] = tuple(
    (step, re.compile(pattern, re.ASCII))
    for step, pattern in (
        # tensorrt_llm/__init__.py; `TensorRT-LLM version` up to 1.1.
        (Step.IMPORTED, r"\[TensorRT-LLM\] TensorRT[- ]LLM version: (?P<version>\d[\w.+-]{0,39})"),
        # llmapi/llm.py; executor/proxy.py.
        (Step.ARGUMENTS, r"Using LLM with (?P<backend>[A-Za-z]{1,20}) backend"),
        (Step.SPAWN, r"to spawn MPI processes"),
        # _torch/pyexecutor/model_loader.py: of one rank. `Rank 0 uses` was not found in public.
        (Step.SKELETON, rf"\b[Uu]ses? (?P<gib>{_NUMBER}) GB for model weights"),
        # _torch/models/checkpoints/hf/weight_loader.py, not if the files are larger than the free memory.
        (Step.READ, rf"Prefetching (?P<gib>{_NUMBER}) ?GB checkpoint files"),
        (Step.READ, rf"Loading [a-z]{{1,20}} weights in parallel:{_BAR}"),
        # The logs: 1.1.0rc3 and 1.2.0rc2; `concurrently` 1.3.0rc0.
        (Step.LOAD, rf"Loading weights(?: concurrently)?:{_BAR}"),
        # `timing` of model_loader.py.
        (Step.LOADED, rf"Model init total -- (?P<seconds>{_NUMBER}) ?s\b"),
        # kvCacheManager.cpp.
        (
            Step.KV_CACHE,
            rf"Allocated (?P<gib>{_NUMBER}) GiB for max tokens in paged KV cache \((?P<tokens>\d{{1,12}})\)",
        ),
        # _torch/autotuner.py; with a colon in older ones.
        (Step.AUTOTUNE, r"\[Autotuner\]:? Autotuning process starts"),
        # _torch/pyexecutor/model_engine.py: `Creating` to 1.2, `Running` in 1.3; `generation only` in 1.1.
        (
            Step.GRAPHS,
            r"(?:Creating CUDA graph instances|Running CUDA graph capture) for (?P<sizes>\d{1,5}) batch sizes",
        ),
        (Step.GRAPHS, r"Run generation[- ]only CUDA graph warmup for batch size=(?P<size>\d{1,9})"),
        # _torch/pyexecutor/_util.py.
        (Step.MEASURED, rf"available KV cache memory when calculating max tokens: {_KV_LEFT}"),
        (Step.MEASURED, rf"Estimated max memory in KV cache ?: {_KV_LEFT}"),
        # The log of 1.1.0rc3; later sources say it to debuggers only.
        (Step.SETTLED, r"Setting PyTorch memory fraction to"),
    )
)
"""A `GB` of these lines is 2^30 bytes, as their source divides."""


def read_sign(line: str) -> Sign | None:
    """Return what a line of TensorRT-LLM tells about its load, or None."""
    for step, pattern in MARKERS:
        if found := pattern.search(line):
            return _sign(step, {name: text for name, text in found.groupdict().items() if text is not None})
    return None


def _sign(step: Step, said: dict[str, str]) -> Sign:
    facts = {name: _FACTS.get(name, int)(text) for name, text in said.items() if name not in ("gib", "eta_s")}
    if "eta_s" in said and (left := _seconds(said["eta_s"])) is not None:
        facts["eta_s"] = left
    fraction = None
    if "total" in facts:
        done, total = int(facts["done"]), int(facts["total"])
        fraction = min(done / total, 1.0) if total else None
    size = round(float(said["gib"]) * 2**30) if "gib" in said else None
    return Sign(step=step, fraction=fraction, bytes_total=size, facts=facts)


_FACTS: dict[str, Callable[[str], int | float | str]] = {"version": str, "backend": str, "seconds": float}


def _seconds(clock: str) -> int | None:
    """Return the seconds of `05`, `01:05` or `1:00:05`; None of what is no time."""
    parts = clock.split(":")
    if len(parts) > 3 or not all(parts):
        return None
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + int(part)
    return seconds

"""Import tensorrt_llm, which takes minutes. Called by `tensorrt_llm`. The only file that names the package.

What must be so before the import is made so here: its environment, and a shield against its crash inside NVML.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode_worker.engines import tensorrt_llm_signatures as signatures
from rhapsode_worker.engines.tensorrt_llm_failures import find_cause, words_of
from rhapsode_worker.engines.tensorrt_llm_shield import shield_nvml
from rhapsode_worker.errors import LoadError

KNOWN = "1.2"
_FINAL = 1_000
PENALTIES_SINCE = (1, 3, 0, 24)
"""Version and release candidate; see NVIDIA/TensorRT-LLM#16485."""
SITE = Path(__file__).parent / "tensorrt_llm_site"
"""Holds a `sitecustomize.py` for the processes that TensorRT-LLM starts: it shields them too."""


class Package(NamedTuple):
    """What we use of it."""

    version: str
    llm: Any
    sampling_params: Any
    kv_cache_config: Any
    guided_decoding_params: Any
    request_error: type[Exception]


def import_package(environ: Mapping[str, str]) -> Package:
    """Return the package, imported in an environment. Raises LoadError."""
    os.environ.update(environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH"))))
    shield_nvml()
    try:
        return _import()
    except Exception as exc:  # whatever a driver, a library or a module of it is missing
        raise _explain(exc) from exc


def version_gap(version: str) -> dict[str, str] | None:
    """Return what to say of another version than the known one: its names are compared with those that we use."""
    if re.match(rf"{re.escape(KNOWN)}(\D|\Z)", version):
        return None
    try:
        found = signatures.differences()
    except ImportError:  # nothing here reads YAML
        return {"version": version, "known": KNOWN, "differences": ""}
    return {"version": version, "known": KNOWN, "differences": f": {'; '.join(found[:5])}" if found else ""}


def penalises(version: str) -> bool:
    """Return whether penalties count: the sampler of PyTorch's backend took them and ignored them until then."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?(?:rc(\d+))?", version)
    if found is None:
        return False
    major, minor, patch, candidate = (int(part) if part else 0 for part in found.groups())
    return (major, minor, patch, candidate or _FINAL) >= PENALTIES_SINCE


def _import() -> Package:
    import tensorrt_llm
    from tensorrt_llm.executor.utils import RequestError
    from tensorrt_llm.llmapi import GuidedDecodingParams, KvCacheConfig

    return Package(
        version=str(tensorrt_llm.__version__),
        llm=tensorrt_llm.LLM,
        sampling_params=tensorrt_llm.SamplingParams,
        kv_cache_config=KvCacheConfig,
        guided_decoding_params=GuidedDecodingParams,
        request_error=RequestError,
    )


def _explain(exc: Exception) -> LoadError:
    if isinstance(exc, ModuleNotFoundError) and exc.name == "tensorrt_llm":
        return LoadError("EngineNotInstalled", "tensorrt_llm is not installed here", "Set spec.image.worker.")
    said = words_of(exc)
    return find_cause(said) or LoadError(
        "EngineNotInstalled",
        f"tensorrt_llm cannot be imported: {said.splitlines()[0][:300]}",
        "Set spec.image.worker to an image whose TensorRT-LLM and libraries fit together.",
    )

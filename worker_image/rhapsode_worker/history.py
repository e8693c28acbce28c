"""Remember how long loading took on this machine. Called by `supervising`. A broken file is no matter."""

import contextlib
import hashlib
from pathlib import Path

import msgspec

from rhapsode_contract.resources import EngineSpec
from rhapsode_contract.sources import ModelSource

_KEPT = 100
_LONGEST_S = 86_400.0
"""What is said to have taken longer was written by nobody who measured it."""
Times = dict[str, float]


def load_key(engine: str, source: ModelSource, spec: EngineSpec) -> str:
    """Return what makes one load like another: the engine, the model, and everything that is asked of the engine."""
    options = hashlib.sha256(msgspec.json.encode(spec, order="sorted")).hexdigest()
    return f"{engine} {source.scheme}://{source.place}/{source.detail} {options[:12]}"


def usual_times(cache: Path, load: str) -> Times:
    """Return the seconds that each stage of this load took last time."""
    told = _read(cache / "load-times.json").get(load, {})
    return {stage: seconds for stage, seconds in told.items() if 0 <= seconds <= _LONGEST_S}


def remember_times(cache: Path, load: str, took: Times) -> None:
    """Keep the seconds of each stage for next time."""
    path = cache / "load-times.json"
    known = _read(path)
    known.pop(load, None)
    known[load] = took
    kept = dict(list(known.items())[-_KEPT:])
    part = path.with_suffix(".part")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(msgspec.json.encode(kept))
        part.replace(path)


def _read(path: Path) -> dict[str, Times]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Times])
    except (OSError, ValueError):  # also of what is no UTF-8
        return {}

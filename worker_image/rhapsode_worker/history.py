"""Remember how long loading took on this machine. Called by `supervising`. A broken file is no matter."""

import contextlib
from pathlib import Path

import msgspec

_KEPT = 100
Times = dict[str, float]


def usual_times(cache: Path, load: str) -> Times:
    """Return the seconds that each stage of this load took last time."""
    return _read(cache / "load-times.json").get(load, {})


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
    except (OSError, msgspec.DecodeError):
        return {}

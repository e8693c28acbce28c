"""How often the kernel killed a process of this container for its memory. Called by `supervising`.

Control groups of version 2 count it. Where the file is absent the answer is unknown, and nothing is claimed.
"""

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def memory_events(of: Path = Path("/proc/self/cgroup"), root: Path = _ROOT) -> Path | None:
    """Return the file that counts; None if there is no control group of version 2."""
    try:
        lines = of.read_text().splitlines()
    except OSError:
        return None
    own = next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), None)
    return None if own is None else root / own / "memory.events"


def oom_kills(path: Path | None) -> int | None:
    """Return how many processes were killed; None if that is unknown."""
    try:
        lines = path.read_text().splitlines() if path else []
    except OSError:
        return None
    counts = dict(line.split(" ", 1) for line in lines if " " in line)
    return int(counts["oom_kill"]) if counts.get("oom_kill", "").isdigit() else None

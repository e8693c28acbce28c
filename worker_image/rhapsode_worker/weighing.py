"""See how large a model is on disk, and how much of it another process has read, from the kernel's account of its
memory map.

An engine without a progress callback still maps its weights; `/proc/PID/smaps` says how many bytes of the
mapping are in its memory. Where there is no `/proc`, nothing is said.
"""

import re
from itertools import pairwise
from pathlib import Path

_RESIDENT = re.compile(r"^Rss:\s+(\d+) kB", re.MULTILINE)
_HEADER = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ", re.MULTILINE)


def resident_bytes(smaps: str, path: Path) -> int | None:
    """Return how many bytes of a file's mappings are resident; None if it is not mapped."""
    starts = [found.start() for found in _HEADER.finditer(smaps)] + [len(smaps)]
    sizes = [
        int(found[1]) * 1024
        for begin, end in pairwise(starts)
        if smaps[begin:end].partition("\n")[0].endswith(f" {path}") and (found := _RESIDENT.search(smaps, begin, end))
    ]
    return sum(sizes) if sizes else None


def read_resident_bytes(pid: int, path: Path) -> int | None:
    """Return how many bytes of the file process `pid` has in memory; None if it has not mapped it.

    Raises OSError if the process cannot be seen: one that has ended has mapped nothing either.
    """
    smaps = Path(f"/proc/{pid}/smaps").read_text()
    if not smaps:
        raise ProcessLookupError(pid)
    return resident_bytes(smaps, path.resolve())


def weights_file(path: Path) -> Path:
    """Return the file that holds the weights of a model."""
    return path / "openvino_model.bin" if path.is_dir() else path


def checkpoint_bytes(path: Path) -> int | None:
    """Return how much a checkpoint's weights weigh on disk; None if that cannot be seen."""
    for kind in ("*.safetensors", "*.bin", "*.pth"):
        try:
            if size := sum(file.stat().st_size for file in path.glob(kind)):
                return size
        except OSError:
            return None
    return None

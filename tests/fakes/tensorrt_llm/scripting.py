"""What an import, a load or a shutdown does, by the file of FAKE_TRTLLM_SCRIPT: `{"import": [step, …], "load": …}`.

A step is one of `{"print": text}` (as it is; a line needs its newline), `{"sleep": seconds}`,
`{"wait": path}` (until the test makes that file),
`{"vram": bytes, "gpu": index}` (memory in use of a GPU of the fake NVML, whose state FAKE_NVML_STATE names),
`{"raise": text}` or `{"raise": text, "cause": text}`, `{"leave": path}` (a process that holds
the output open and belongs to no group of ours; its number goes into the file), and `{"exit": status}`.
"""

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_HEADER = 16
_GPU_BYTES = 88
_USED_AT = 8


def play(part: str) -> None:
    """Do what the script says of one part."""
    if path := os.environ.get("FAKE_TRTLLM_SCRIPT"):
        for step in json.loads(Path(path).read_text(encoding="utf-8")).get(part, ()):
            _do(step)


def _do(step: dict[str, Any]) -> None:
    match step:
        case {"print": text}:
            sys.stdout.write(text)
            sys.stdout.flush()
        case {"sleep": seconds}:
            time.sleep(seconds)
        case {"wait": path}:
            while not Path(path).exists():
                time.sleep(0.01)
        case {"vram": used}:
            _use_memory(step.get("gpu", 0), used)
        case {"raise": text, "cause": cause}:
            raise RuntimeError(text) from ValueError(cause)
        case {"raise": text}:
            raise RuntimeError(text)
        case {"leave": path}:
            left = subprocess.Popen(["sleep", "600"], start_new_session=True)
            with Path(path).open("a", encoding="ascii") as file:
                file.write(f"{left.pid}\n")
        case {"exit": status}:
            os._exit(status)


def _use_memory(gpu: int, used: int) -> None:
    """Write into the record of a GPU, as `struct gpu` of tests/support/nvml/nvml.c has it."""
    with Path(os.environ["FAKE_NVML_STATE"]).open("r+b") as file, mmap.mmap(file.fileno(), 0) as state:
        at = _HEADER + gpu * _GPU_BYTES + _USED_AT
        state[at : at + 8] = used.to_bytes(8, "little")

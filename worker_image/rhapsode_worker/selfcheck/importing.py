"""Import TensorRT-LLM once and compare it with what we use of it: `python -m rhapsode_worker.selfcheck.importing`.

A process of its own, started by `comparing`: the import takes minutes and may crash. It reads a plan as one line of
JSON from standard input, and begins when it has it: only then it is certain that it ends with the check (`guarding`).
What it found is in the file that is its argument.
"""

import os
import signal
import sys
from pathlib import Path

import msgspec

from rhapsode_contract.names import EXIT_CANNOT_WORK
from rhapsode_worker.engines import LoadPlan
from rhapsode_worker.engines import tensorrt_llm_signatures as signatures
from rhapsode_worker.engines.tensorrt_llm_importing import KNOWN, import_package, version_gap
from rhapsode_worker.engines.tensorrt_llm_options import read_plan
from rhapsode_worker.errors import LoadError


class Imported(msgspec.Struct, kw_only=True):
    """What came of it: a version and what it lacks, or why it cannot be imported."""

    version: str = ""
    known: str = KNOWN
    other: bool = False
    """Whether it is another version than the known one."""
    differences: list[str] | None = None
    """None: nothing here reads the file with the signatures."""
    reason: str = ""
    why: str = ""
    remedy: str = ""


def look(plan: LoadPlan) -> Imported:
    """Import the package in the environment that a load would make, and compare."""
    try:
        version = import_package(read_plan(plan).environ).version
    except LoadError as exc:
        return Imported(reason=exc.reason, why=exc.why, remedy=exc.remedy)
    try:
        found: list[str] | None = signatures.differences()
    except ImportError:
        found = None
    return Imported(version=version, other=version_gap(version) is not None, differences=found)


def main() -> int:
    """Look, write what was found, and end with all that the package started: this process leads a group."""
    if not (told := sys.stdin.buffer.readline()):
        return EXIT_CANNOT_WORK
    found = look(msgspec.json.decode(told, type=LoadPlan))
    sys.stdout.flush()
    sys.stderr.flush()
    part = Path(sys.argv[1]).with_suffix(".part")
    part.write_bytes(msgspec.json.encode(found))
    part.replace(sys.argv[1])
    os.killpg(0, signal.SIGKILL)
    return EXIT_CANNOT_WORK


if __name__ == "__main__":
    sys.exit(main())

"""Why a worker gives up, and telling it where Kubernetes looks: the container's termination message.

Called by `supervising`.
"""

from pathlib import Path

import msgspec

from rhapsode_contract.conditions import REASONS
from rhapsode_contract.names import MAX_TERMINATION_BYTES
from rhapsode_worker.engine_process import Ending
from rhapsode_worker.engines.tensorrt_llm_failures import find_cause


def names_its_cause(ending: Ending) -> bool:
    """Return whether an engine's last lines say why it ended, and loading again, for minutes, would not help."""
    known = find_cause("\n".join(ending.lines))
    return known is not None and REASONS[known.reason].stalls


def explain_endings(ending: Ending, times: int) -> tuple[str, str, str]:
    """Return reason, cause and remedy of an engine that ended so many times in a row, last by this."""
    why = f"the engine ended {times} time{'' if times == 1 else 's'} in a row, by {ending.how}"
    if ending.out_of_memory:
        return "ContainerOOM", why, "Raise the worker container's memory limit, or lower maxSequences."
    if known := find_cause("\n".join(ending.lines)):  # said by a process below, which the engine only saw dying
        return known.reason, f"{why}: {known.why}", known.remedy
    return "EngineCrash", f"{why}: {ending.last_line}", "Look at the engine's last lines in this log."


def termination_message(reason: str, message: str) -> bytes:
    """Return the reason and what a person can do as JSON, cut to what Kubernetes keeps."""
    while len(written := msgspec.json.encode({"reason": reason, "message": message})) > MAX_TERMINATION_BYTES:
        excess = len(written) - MAX_TERMINATION_BYTES
        message = message[: -(excess // 4 + 2)] + "…"
    return written


def write_termination(path: Path | None, reason: str, message: str) -> None:
    """Write it, if there is a place for it; a worker that cannot work ends either way."""
    if path is None:
        return
    try:
        path.write_bytes(termination_message(reason, message))
    except OSError:
        return

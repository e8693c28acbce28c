"""Run a module of this package as a process and take what it says, in bounded time: the driver may hang or crash."""

import contextlib
import ctypes
import signal
import subprocess
import sys

from bench.hardware.patience import Patience

_AFTER_KILL_S = 5.0
_DEATH_SIGNAL = 1


class ChildFailed(Exception):
    """It crashed, hung, or could not do it."""


def told(module: str, *arguments: str, limit_s: float) -> str:
    """Return what a module printed. Raises ChildFailed."""
    command = [sys.executable, "-m", f"bench.hardware.{module}", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        said = _answer(process, Patience(limit_s))
    finally:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a call that cannot be killed is left alone
            process.wait(_AFTER_KILL_S)
    if said is None:
        raise ChildFailed(f"the driver has not answered within {limit_s:.0f} s")
    if process.returncode:
        raise ChildFailed(how_it_ended(process.returncode))
    return said.strip()


def _answer(process: "subprocess.Popen[str]", patience: Patience) -> str | None:
    """Return what a process said until it ended; None when the time is over."""
    while left := patience.slice():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=left)[0]
    return None


def die_with_parent() -> None:
    """End when who started this process does: in a call that hangs, it would never read that nobody listens."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def how_it_ended(status: int) -> str:
    """Return an exit status in words."""
    return f"the process died of {signal.Signals(-status).name}" if status < 0 else f"the process ended with {status}"

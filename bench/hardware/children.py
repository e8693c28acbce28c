"""Run a module of this package as a process and take what it says, in bounded time: the driver may hang or crash."""

import contextlib
import ctypes
import signal
import subprocess
import sys

_AFTER_KILL_S = 5.0
_DEATH_SIGNAL = 1


class ChildFailed(Exception):
    """It crashed, hung, or could not do it."""


def told(module: str, *arguments: str, limit_s: float) -> str:
    """Return what a module printed. Raises ChildFailed."""
    command = [sys.executable, "-m", f"bench.hardware.{module}", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        said, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"the driver has not answered within {limit_s:.0f} s") from None
    finally:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a call that cannot be killed is left alone
            process.wait(_AFTER_KILL_S)
    if process.returncode:
        raise ChildFailed(how_it_ended(process.returncode))
    return said.strip()


def die_with_parent() -> None:
    """End when who started this process does: in a call that hangs, it would never read that nobody listens."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def how_it_ended(status: int) -> str:
    """Return an exit status in words."""
    return f"the process died of {signal.Signals(-status).name}" if status < 0 else f"the process ended with {status}"

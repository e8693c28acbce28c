"""How a command ends: its exit status, one line for what went wrong, and output that nobody takes any more.

Called by `rhapsode` and `kubectl rhapsode`.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable

from rhapsode.errors import EXIT_FAILED, EXIT_INTERRUPTED, CommandError


def run_to_end(program: str, run: Callable[[], int]) -> int:
    """Run a command and write out all that it said; return the exit status."""
    try:
        try:
            return _status_of(program, run)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _leave_unwritten()
        return 128 + signal.SIGPIPE
    except OSError as exc:
        if exc.filename is not None:
            raise
        _leave_unwritten()
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{program}: cannot write: {exc.strerror}\n")
        return EXIT_FAILED


def _status_of(program: str, run: Callable[[], int]) -> int:
    try:
        return run()
    except CommandError as exc:
        sys.stderr.write(f"{program}: {exc}\n")
        return exc.status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _leave_unwritten() -> None:
    """Forget what cannot be written: Python would try again at its end, complain, and change the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

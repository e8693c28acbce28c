"""Run `rhapsode` commands as a user does, through pipes or on a terminal."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator

from support.processes import DEADLINE_S


class Command:
    """A running `rhapsode` command."""

    def __init__(self, *args: str, stdin: str | None = None, environ: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "rhapsode", *args]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=os.environ | (environ or {}),
        )  # fmt: skip
        if stdin is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(stdin)
            self.process.stdin.close()
            self.process.stdin = None

    def says(self, words: str) -> str:
        """Return what standard output brings from now on, up to some words."""
        assert self.process.stdout is not None
        return _read_up_to(self.process.stdout.fileno(), words)

    def done(self, seconds: float = 2 * DEADLINE_S) -> tuple[int, str, str]:
        """Return status, standard output and standard error."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


class Terminal:
    """A `rhapsode` command on a terminal of a hundred columns."""

    def __init__(self, *args: str) -> None:
        self._screen, end = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rhapsode", *args], stdin=end, stdout=end, stderr=end, start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"},
        )  # fmt: skip
        os.close(end)

    def shows(self, words: str) -> str:
        """Return what is shown from now on, up to some words."""
        return _read_up_to(self._screen, words)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)


def _read_up_to(descriptor: int, words: str) -> str:
    shown, deadline = b"", time.monotonic() + DEADLINE_S
    while words.encode() not in shown:
        assert time.monotonic() < deadline, f"{words!r} is not shown: {shown.decode(errors='replace')}"
        if select.select([descriptor], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):
                shown += os.read(descriptor, 65536)
    return shown.decode(errors="replace")


@contextlib.contextmanager
def on_terminal(*args: str) -> Iterator[Terminal]:
    """Run a command on a terminal."""
    terminal = Terminal(*args)
    try:
        yield terminal
    finally:
        terminal.close()

"""Run `rhapsode` commands as a user does, through pipes or on a terminal."""

import os
import pty
import subprocess
import sys
import time
from typing import Any


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

    def done(self, seconds: float = 20) -> tuple[int, str, str]:
        """Return status, standard output and standard error."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


def screen_of(*args: str, until: str, act: Any = None) -> str:
    """Return what a terminal shows while a command runs, up to some words."""
    master, slave = pty.openpty()
    environ = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-m", "rhapsode", *args], stdin=slave, stdout=slave, stderr=slave, env=environ
    )
    os.close(slave)
    shown = b""
    try:
        if act is not None:
            act()
        deadline = time.monotonic() + 20
        while until.encode() not in shown:
            assert time.monotonic() < deadline, shown.decode(errors="replace")
            try:
                shown += os.read(master, 65536)
            except OSError:
                break
    finally:
        process.terminate()
        process.wait()
        os.close(master)
    return shown.decode(errors="replace")

"""Run `python -m bench.hardware` against fake libraries of the driver, in short steps."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from bench.hardware.records import Report, Step

from support.documents import ROOT
from support.fake_cuda import environ
from support.fake_nvml import FakeNvml

MIB = 2**20
CONTEXT = 500 * MIB
PATIENCE_S = 300
SHORT = ("--every", "0.1", "--step", "64MiB", "--steps", "2", "--hold", "1")
PATIENT = ("--limit", "30", "--call-limit", "30")
WRONG = ("--limit", "2", "--call-limit", "30")
"""For a driver that tells wrong sizes: those are given up soon. Seconds in which the bench stood still do not count."""
HANGING = ("--limit", "30", "--call-limit", "5")
"""For a call that hangs: it is given up soon. Seconds count in which a process stood still that the bench asks."""
HASTY = ("--limit", "0.5", "--call-limit", "5")


class Measured:
    """A run of the command, and what it left in `folder`."""

    def __init__(self, folder: Path, *args: str, environ: dict[str, str]) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "bench.hardware", "--out", str(folder), *args]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def done(self) -> tuple[int, str, str]:
        """Return status, standard output and standard error."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.rglob("*")) if self.folder.exists() else []

    def report(self) -> Report:
        """Return the one report that was stored."""
        (path,) = self.folder.glob("*.json")
        return msgspec.json.decode(path.read_bytes(), type=Report)

    def send(self, sent: signal.Signals) -> None:
        self.process.send_signal(sent)


@contextlib.contextmanager
def measuring(driver: FakeNvml, folder: Path, *args: str, **faults: str) -> Iterator[Measured]:
    """Run the command against the driver with faults of its CUDA library."""
    measured = Measured(folder, *SHORT, *args, environ=environ(driver, **faults))
    try:
        yield measured
    finally:
        measured.process.kill()
        measured.process.communicate(timeout=PATIENCE_S)


def measure(driver: FakeNvml, folder: Path, *args: str, **faults: str) -> tuple[int, str, Measured]:
    """Run it to its end; return its status, what it said of it, and the run."""
    with measuring(driver, folder, *args, **faults) as measured:
        status, out, err = measured.done()
    return status, out + err, measured


def failed(report: Report) -> dict[str, str]:
    """Return the checks that failed, and why."""
    return {check.what: check.why for check in report.checks if not check.passed}


def changes(steps: list[Step]) -> list[tuple[str, int, int]]:
    """Return each step with what was held after it and what NVML was told to use more, both in MiB."""
    return [(step.name, step.held_bytes // MIB, (step.used_after - step.used_before) // MIB) for step in steps]

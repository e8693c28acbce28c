"""`rhapsode selfcheck` as a user starts it in a worker's image, and the report that it prints."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from support.fake_tensorrt import fakes_environ
from support.processes import wait_until

SELFCHECK = [sys.executable, "-m", "rhapsode_worker.selfchecking"]
DEADLINE_S = 300


class Checked(NamedTuple):
    """A check that is over."""

    status: int
    report: dict[str, Any]
    told: str

    def row(self, name: str) -> dict[str, Any]:
        return next(row for row in self.report["checks"] if row["name"] == name)

    def outcomes(self, *names: str) -> list[str]:
        return [self.row(name)["outcome"] for name in names]

    @property
    def by_outcome(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in self.report["checks"]:
            found.setdefault(row["outcome"], []).append(row["name"])
        return found


def selfcheck(*args: str | Path, **environ: str) -> Checked:
    """Run a check to its end; it prints JSON."""
    done = subprocess.run(
        [*SELFCHECK, "--json", *map(str, args)], env=os.environ | environ, capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return Checked(done.returncode, json.loads(done.stdout), done.stderr)


def on_tensorrt(folder: Path, script: dict[str, Any], *args: str | Path, **environ: str) -> Checked:
    """Run a check of the stand-in for TensorRT-LLM, which plays a script."""
    return selfcheck("--engine", "TensorRTLLM", *args, **scripted(folder, script), **environ)


def scripted(folder: Path, script: dict[str, Any]) -> dict[str, str]:
    """Return what a process needs to find the stand-in, and the script that it plays."""
    path = folder / "script.json"
    path.write_text(json.dumps(script))
    return fakes_environ(FAKE_TRTLLM_SCRIPT=str(path))


class Checking:
    """A check that runs, and what it says meanwhile."""

    def __init__(self, *args: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [*SELFCHECK, *args], env=os.environ | environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.told: list[str] = []
        self._out: list[str] = []
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        streams = [(self.process.stdout, self._out), (self.process.stderr, self.told)]
        self._readers = [threading.Thread(target=lines.extend, args=(stream,)) for stream, lines in streams]
        for reader in self._readers:
            reader.start()

    def wait_told(self, words: str) -> None:
        wait_until(lambda: any(words in line for line in list(self.told)), f"{words!r} is told; so far {self.told}")

    def children(self, module: str) -> list[psutil.Process]:
        """Return its processes that run a module, once there is one."""

        def found() -> list[psutil.Process]:
            below = psutil.Process(self.process.pid).children(recursive=True)
            return [one for one in below if _runs(one, module)]

        running: list[psutil.Process] = wait_until(found, f"{module} runs")
        return running

    def done(self) -> tuple[int, str]:
        """Return its exit status and what it printed, once all of it and all that it told is there."""
        status = self.process.wait(DEADLINE_S)
        for reader in self._readers:
            reader.join(DEADLINE_S)
        return status, "".join(self._out)

    def close(self) -> None:
        self.process.kill()
        self.done()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def _runs(process: psutil.Process, module: str) -> bool:
    try:
        return module in process.cmdline()
    except psutil.Error:
        return False

"""Run the drivers of the SDKs (`tests/sdks/clients`) in the environments that `make sdks` installs. Used by `tests/sdks`."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from support.documents import ROOT
from support.processes import wait_until

SDKS = ROOT / ".sdks"
CLIENTS = ROOT / "tests/sdks/clients"
NODE = SDKS / "node/bin/node"
PATIENCE_S = 300.0
QUIET = {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}
"""Whom LiteLLM would call beside the worker: a hub for a tokenizer of the model, and a page of prices."""
Told = dict[str, Any]


class Driver(NamedTuple):
    """A program that takes one or several clients through the situations."""

    environment: str
    program: str

    def command(self) -> list[str]:
        if self.program.endswith(".mjs"):
            return [str(NODE), f"clients/{self.program}"]
        return [str(python_of(self.environment)), "-m", f"sdks.clients.{self.program}"]

    def folder(self) -> Path:
        return SDKS / self.environment if self.program.endswith(".mjs") else ROOT / "tests"


DRIVERS = (
    *(Driver(environment, "litellm_python") for environment in ("litellm-newest", "litellm-oldest")),
    *(Driver(environment, program) for environment in ("newest", "oldest")
      for program in ("openai_python", "langchain_python", "httpx_sse_python")),
    Driver("own", "chromium"),
    *(Driver(environment, program) for environment in ("node-newest", "node-oldest")
      for program in ("openai_node.mjs", "vercel.mjs", "use_chat.mjs", "agui.mjs", "eventsource.mjs")),
)  # fmt: skip

"""Those that take longest to begin come first."""


def python_of(environment: str) -> Path:
    """Return the Python of an environment; `own` is the one that runs the tests."""
    return Path(sys.executable) if environment == "own" else SDKS / environment / "bin/python"


def need_sdks() -> None:
    """Fail in one line where the SDKs are not installed; else give those of Node today's drivers."""
    if not (SDKS / ".installed").exists():
        raise AssertionError("the SDKs are not installed: run `make sdks`")
    for folder in SDKS.glob("node-*"):
        shutil.copytree(CLIENTS, folder / "clients", dirs_exist_ok=True)


class Run:
    """One run of a driver, which tells a line for each situation."""

    def __init__(self, driver: Driver, urls: dict[str, str]) -> None:
        self.driver = driver
        self.told: list[Told] = []
        self.waits = False
        """Whether all is done but what needs a worker that loads."""
        environ = os.environ | QUIET | urls | {"PYTHONPATH": str(ROOT / "tests"), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            driver.command(), cwd=driver.folder(), env=environ, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._errors: list[str] = []
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def wait_waits(self) -> None:
        wait_until(lambda: self.waits or self.process.poll() is not None, f"{self.driver} waits", PATIENCE_S)

    def go_on(self, url: str) -> None:
        """Tell where the worker is that loads."""
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.write(f"{url}\n")
            self.process.stdin.flush()

    def finish(self) -> list[Told]:
        """Return all that was told. A driver that breaks off says so itself."""
        status = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(60)
        assert status == 0, f"{self.driver} ended with {status}: {''.join(self._errors)[-2000:]}"
        return self.told

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(60)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                told = json.loads(line)
            except ValueError:
                continue  # a client that talks to standard output
            if told.get("waits"):
                self.waits = True
            else:
                self.told.append(told | {"environment": self.driver.environment})

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)

"""Run what stands in the console blocks of documents, and compare what is said with what is shown."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from support.documents import ROOT, Block
from support.processes import free_port, wait_until

WATCH_S = 120
"""How long a command that never ends may run; one that tells of readiness ends then."""
_SHAPES = [
    (re.compile(r"\b(?!req\b)[a-z]+-[0-9a-z]{16}\b"), "JOB"),
    (re.compile(r"\breq-[0-9a-f]{16}\b"), "REQ"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "HEX"),
    (re.compile(r"\bmw[0-9a-z]{6}\b"), "EPOCH"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\d+(\.\d+)?"), "N"),
    (re.compile(r"\b(MB|kB|GB|min N s|ms|s)\b"), "U"),
    (re.compile(r"[ \t]+"), " "),
]


def shape(line: str) -> str:
    """Return a line without what differs from run to run: numbers, their units, ids, times."""
    for pattern, name in _SHAPES:
        line = pattern.sub(name, line)
    return line.strip()


def in_a_real_cluster(block: Block) -> bool:
    """Return whether a block needs nodes that run images: `e2e` runs those, `tests/chart` its Helm commands."""
    return block.document == "docs/operations.md" or "helm " in block.text


def in_a_cluster(block: Block) -> bool:
    """Return whether a block needs a cluster: `tests/operator` runs those."""
    return "kubectl " in block.text


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands of a console block, each with the output that the document shows."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        taken = 1
        while lines[taken - 1].endswith("\\"):
            taken += 1
        command = "\n".join(lines[:taken])
        yield command, [line for line in lines[taken:] if line.strip() not in ("", "…")]


class Session:
    """A shell in the repository whose ports are free ones."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self.background: list[subprocess.Popen[bytes]] = []
        self.environ = (
            os.environ
            | {
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "RHAPSODE_URL": f"http://127.0.0.1:{self.port}",
                "RHAPSODE_SOCKET": str(folder / "worker.sock"),
                "COLUMNS": "120",
            }
            | (environ or {})
        )

    def run(self, command: str) -> str:
        """Run a command to its end, or in the background until its worker is ready; return what it said."""
        command = command.replace("8080", str(self.port)).replace("9101", str(self.admin_port))
        if "rhapsode play" in command and "--port" not in command and "--help" not in command:
            ports = f"rhapsode play --port {self.port} --admin-port {self.admin_port}"
            command = command.replace("rhapsode play", ports)
        if command.endswith(" -w"):
            return self._watch(command)
        if command.endswith("&"):
            self._start(command.removesuffix("&"))
            return ""
        done = subprocess.run(
            ["bash", "-ec", command], cwd=ROOT, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout)
        return done.stdout

    def _watch(self, command: str) -> str:
        """Run a command that never ends until what it watches is ready."""
        watching = ["timeout", str(WATCH_S), *shlex.split(command)]
        said = ""
        with subprocess.Popen(watching, cwd=ROOT, env=self.environ, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said += line
                if re.search(r"\bTrue +Ready +loaded\b", line):
                    process.terminate()
        return said

    def _start(self, command: str) -> None:
        self.background.append(
            subprocess.Popen(shlex.split(command), cwd=ROOT, env=self.environ, stdout=subprocess.DEVNULL)
        )
        wait_until(self._ready, f"{command} is ready", 120)

    def _ready(self) -> bool:
        try:
            return bool(httpx.get(f"http://127.0.0.1:{self.admin_port}/readyz").status_code == 200)
        except httpx.TransportError:
            return False

    def close(self) -> None:
        for process in self.background:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def compare(block: Block, command: str, said: str, shown: list[str]) -> None:
    """Each line that the document shows is a line that was said; the end of one may be cut off with '…'."""
    lines = {shape(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in said.splitlines()}
    for line in map(shape, shown):
        start = line.removesuffix("…")
        found = any(one.startswith(start) for one in lines) if line.endswith("…") else line in lines
        assert found, f"{block}: {command!r} did not say {line!r}, but:\n{said}"

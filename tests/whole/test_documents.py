"""What stands in the documents is run: every command, every manifest, every program, and its output is compared."""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from rhapsode_contract.validating import decode_manifest
from support.documents import ROOT, Block, blocks
from support.models import smollm
from support.processes import Play, free_port, manifest, playing, wait_until

RUN_BY_CI = {"make test", "make lint types test", "make generate", "make bench", ".ci/run"}
"""Commands that would run this test again, or for minutes; `.ci/run` runs them, and `test_bench` the bench."""
SESSIONS = {document: [one for one in blocks("console") if one.document == document] for document in
            dict.fromkeys(one.document for one in blocks("console"))}  # fmt: skip
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

    def __init__(self, folder: Path) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self.background: list[subprocess.Popen[bytes]] = []
        self.environ = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RHAPSODE_URL": f"http://127.0.0.1:{self.port}",
            "RHAPSODE_SOCKET": str(folder / "worker.sock"),
            "COLUMNS": "120",
        }

    def run(self, command: str) -> str:
        """Run a command to its end, or in the background until its worker is ready; return what it said."""
        command = command.replace("8080", str(self.port)).replace("9101", str(self.admin_port))
        if "rhapsode play" in command and "--port" not in command and "--help" not in command:
            ports = f"rhapsode play --port {self.port} --admin-port {self.admin_port}"
            command = command.replace("rhapsode play", ports)
        if command.endswith("&"):
            self._start(command.removesuffix("&"))
            return ""
        done = subprocess.run(
            ["bash", "-ec", command], cwd=ROOT, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout)
        return done.stdout

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


@pytest.mark.model
@pytest.mark.parametrize("document", SESSIONS, ids=str)
def test_every_command_runs_and_says_what_the_document_shows(document: str) -> None:
    smollm()
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Path(folder))
        try:
            for block in SESSIONS[document]:
                for command, shown in commands(block):
                    if command not in RUN_BY_CI:
                        compare(block, command, session.run(command), shown)
        finally:
            session.close()


def compare(block: Block, command: str, said: str, shown: list[str]) -> None:
    """Each line that the document shows is a line that was said; the end of one may be cut off with '…'."""
    lines = {shape(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in said.splitlines()}
    for line in map(shape, shown):
        start = line.removesuffix("…")
        found = any(one.startswith(start) for one in lines) if line.endswith("…") else line in lines
        assert found, f"{block}: {command!r} did not say {line!r}, but:\n{said}"


def test_there_are_commands() -> None:
    assert {"README.md", "docs/stream.md", "CONTRIBUTING.md"} <= set(SESSIONS)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_every_manifest_is_one(block: Block) -> None:
    decode_manifest(yaml.safe_load(block.text))


@pytest.fixture(scope="module")
def audience() -> Iterator[Play]:
    with playing(manifest()) as play:
        play.wait_ready()
        yield play


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_every_program_runs(block: Block, audience: Play) -> None:
    environ = os.environ | {"RHAPSODE_SOCKET": str(audience.socket), "RHAPSODE_URL": audience.url}
    program = block.text.replace("8080", str(audience.port))
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr

"""Run what stands in the console blocks of documents, and compare what is said with what is shown."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

import httpx

from support.documents import ROOT, Block
from support.processes import free_port, wait_until

WATCH_S = 300
"""How long a command that never ends may run; one that tells of readiness ends then."""
_SHAPES = [
    (re.compile(r"(?<![A-Za-z0-9])(?!req\b)[a-z]+-[0-9a-z]{16}\b"), "JOB"),
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
        self.port, self.admin_port, self.journal_port = free_port(), free_port(), free_port()
        self.folder = folder
        self.background: list[subprocess.Popen[bytes]] = []
        self.held: dict[str, Callable[[], None]] = {}
        """What stands still until a watch has printed a line, by the line's pattern, and how it is released."""
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
        command = self._at_free_ports(command)
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
            text=True, timeout=WATCH_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout)
        return done.stdout

    def _at_free_ports(self, text: str) -> str:
        """Return a command with our ports; a manifest that names one of them is copied, with ours."""
        ours = {"8080": self.port, "9101": self.admin_port, "8765": self.journal_port}
        for shown, port in ours.items():
            text = text.replace(shown, str(port))
        for name in re.findall(r"[\w./-]+\.yaml", text):
            manifest = (ROOT / name).read_text() if (ROOT / name).is_file() else ""
            if "8765" in manifest:
                copy = self.folder / Path(name).name
                copy.write_text(manifest.replace("8765", str(self.journal_port)))
                text = text.replace(name, str(copy))
        return text

    def _watch(self, command: str) -> str:
        """Run a command that never ends until what it watches is ready, and all is told of that."""
        watching = ["timeout", str(WATCH_S), *shlex.split(command)]
        said = ""
        with subprocess.Popen(watching, cwd=ROOT, env=self.environ, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    said += line
                    for pattern in [one for one in self.held if re.search(one, line)]:
                        self.held.pop(pattern)()
                    if ready := re.match(r"(\S+) +True +Ready +loaded\b", line):
                        self._wait_told(ready[1])
                        process.terminate()
            finally:
                process.terminate()
        return said

    def _wait_told(self, worker: str) -> None:
        """Wait for what comes after the line that says Ready: the Event, and what the workers narrate."""
        event = f"kubectl get events -o name --field-selector involvedObject.name={worker},reason=AllReplicasReady"
        wait_until(lambda: "event/" in self.run(event), f"an Event tells that {worker} is ready", WATCH_S)
        wide = f"kubectl get iw {worker} -o wide"
        wait_until(lambda: "Ready after" in self.run(wide), f"{worker} tells that it is ready", WATCH_S)

    def _start(self, command: str) -> None:
        self.background.append(
            subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=ROOT, env=self.environ, stdout=subprocess.DEVNULL)
        )
        page = f"{self.journal_port}/healthz" if " -m journal" in command else f"{self.admin_port}/readyz"
        wait_until(lambda: _answers(f"http://127.0.0.1:{page}"), f"{command} is ready", WATCH_S)

    def close(self) -> None:
        for process in self.background:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        return bool(httpx.get(url).status_code == 200)
    except httpx.TransportError:
        return False


def run_documented(session: Session, blocks: Iterable[Block], leave_out: Container[str] = ()) -> None:
    """Type the commands of a document's blocks, in their order, and look at what is said."""
    for block in blocks:
        for command, shown in commands(block):
            if command not in leave_out:
                compare(block, command, session.run(command), shown)


def compare(block: Block, command: str, said: str, shown: list[str]) -> None:
    """Each line that the document shows is a line that was said; the end of one may be cut off with '…'."""
    lines = {shape(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in said.splitlines()}
    for line in map(shape, shown):
        start = line.removesuffix("…")
        found = any(one.startswith(start) for one in lines) if line.endswith("…") else line in lines
        assert found, f"{block}: {command!r} did not say {line!r}, but:\n{said}"

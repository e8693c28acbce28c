"""Run `kubectl rhapsode` as a user does: the real kubectl finds it on the PATH and becomes it."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from support.api_server import ApiServer
from support.operators import Cluster
from support.processes import DEADLINE_S, wait_until
from support.service_proxy import ServiceProxy

PATIENCE_S = 120.0


class Plugin:
    """A running `kubectl rhapsode` command; what it writes is kept."""

    def __init__(
        self, server: ApiServer, config: Path, *args: str, stdin: str = "", environ: dict[str, str] | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=server.folder))
        path = f"{server.tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        given = {"PATH": path, "HOME": str(server.folder), "KUBECONFIG": str(config), "TMPDIR": str(self.folder)}
        self.environ = os.environ | given | {"COLUMNS": "100"} | (environ or {})
        self.process = subprocess.Popen(
            [*_command(environ), *args], env=self.environ,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(stdin)
        self.process.stdin.close()
        self.out, self.err = "", ""
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_out, self._read_err)]
        for reader in self._readers:
            reader.start()

    def says(self, words: str, seconds: float = PATIENCE_S) -> str:
        """Return all that it wrote once these words are in it."""

        def look() -> bool:
            ended = self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers)
            assert not ended or words in self.out + self.err, f"ended without {words!r}: {self.out}\n{self.err}"
            return words in self.out + self.err

        try:
            wait_until(look, f"{words!r} is said", seconds)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.out}\n{self.err}") from None
        return self.out + self.err

    def done(self, seconds: float = PATIENCE_S) -> tuple[int, str, str]:
        """Return status, standard output and standard error."""
        status = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(DEADLINE_S)
        return status, self.out, self.err

    def proxies(self) -> list[int]:
        """Return the processes of its kubectl proxy, and of who keeps that."""
        return [
            one.pid
            for one in psutil.process_iter(["cmdline"])
            if str(self.folder) in " ".join(one.info["cmdline"] or ())
        ]

    def kubectl_proxy(self) -> int:
        """Return the process of kubectl itself."""
        (found,) = [pid for pid in self.proxies() if psutil.Process(pid).cmdline()[0].endswith("kubectl")]
        return found

    def leaves_nothing(self) -> bool:
        """Return whether no process and no file of it is left."""
        return not self.proxies() and not list(self.folder.iterdir())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.done()
        wait_until(self.leaves_nothing, f"nothing is left: {self.proxies()} {list(self.folder.iterdir())}")

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            while text := stream.read(1):
                self.out += text

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.err += line


def _command(environ: dict[str, str] | None) -> list[str]:
    """Return how it is called: by kubectl, unless the test hides that one."""
    plugin = Path(sys.executable).parent / "kubectl-rhapsode"
    return [sys.executable, str(plugin)] if environ and "PATH" in environ else ["kubectl", "rhapsode"]


class Plugins:
    """Runs `kubectl rhapsode` in a cluster's namespace, which its context names."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.proxy = ServiceProxy(cluster.server)
        self._running: list[Plugin] = []

    def __enter__(self) -> Self:
        self.proxy.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        for one in self._running:
            one.close()
        self.proxy.__exit__(kind, exc, tb)

    def config(self, token: str = "", *, straight: bool = False) -> Path:
        """Return a kubeconfig; `straight`: of the API server itself, which reaches no pods."""
        if straight:
            return self._cluster.server.kubeconfig(token or None, self._cluster.namespace)
        return self.proxy.config(self._cluster.namespace, token)

    def run(self, *args: str, token: str = "", straight: bool = False, **environ: str) -> Plugin:
        """Start a command."""
        config = self.config(token, straight=straight)
        self._running.append(Plugin(self._cluster.server, config, *args, environ=environ))
        return self._running[-1]

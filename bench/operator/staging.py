"""Where a scene plays: an API server, the operator's process, and a process of hollow nodes. Used by the scenes."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil

from bench.operator.calling import Caller
from bench.operator.resources import NAMESPACE
from support.api_server import ApiServer, find_tools
from support.documents import ROOT
from support.processes import free_port, wait_until

COMMAND = [sys.executable, "-m", "rhapsode_operator"]
CRD = ROOT / "crds/inferenceworkers.rhapsode.dev.yaml"


class Operator:
    """The process that is measured: it alone, without the API server and the nodes."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, began: float) -> None:
        self.process, self.began = process, began
        self._port = port
        self._seen = psutil.Process(process.pid)

    def cpu_s(self) -> float:
        return sum(self._seen.cpu_times()[:2])

    def rss_mib(self) -> float:
        return self._seen.memory_info().rss / 2**20

    def metrics(self) -> dict[str, float]:
        """Return what it counts, by the name with labels; nothing while it does not answer."""
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=60) as answer:
                lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if line[:1] != "#"]
        except OSError:
            assert self.process.poll() is None, "the operator ended"
            return {}
        return {name: float(value) for name, _, value in lines if "_created" not in name}

    def total(self, name: str) -> float:
        """Return a counter's sum over its labels."""
        return sum(value for key, value in self.metrics().items() if key.split("{")[0] == name)

    def errors(self) -> float:
        """Return how many reconciles failed and how many requests were not answered with success.

        An Event that is known already (409) and a delete of what is gone (404) are no errors.
        """
        return sum(value for name, value in self.metrics().items() if _is_error(name))


def _is_error(name: str) -> bool:
    if name.startswith("rhapsode_reconcile_total"):
        return 'result="ok"' not in name
    return name.startswith("rhapsode_kube_requests_total") and not any(
        f'code="{code}' in name for code in ("2", "404", "409")
    )


class Nodes:
    """The process that plays kubelets and relays."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, pod: str, *events: dict[str, object]) -> None:
        """Have the relay of a pod tell events on the worker's stream."""
        self._write({"say": pod, "events": events})

    def streams(self) -> int:
        """Return how many streams are open."""
        self._write({"count": True})
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def _write(self, command: dict[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()


class Stage:
    """An API server with our CRD, and what is started beside it."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def caller(self) -> Caller:
        return Caller(self._server.url, self._server.token, str(self._server.certificate))

    @staticmethod
    def cluster_cpu_s() -> float:
        """Return CPU seconds of the API server and of etcd."""
        children = psutil.Process().children()
        return sum(sum(one.cpu_times()[:2]) for one in children if one.name() in ("kube-apiserver", "etcd"))

    def kubeconfig(self) -> Path:
        return self._server.kubeconfig()

    @contextlib.contextmanager
    def operator(self) -> Iterator[Operator]:
        """Run the operator until the block ends."""
        port = free_port()
        environ = {
            "KUBECONFIG": str(self.kubeconfig()),
            "RHAPSODE_NAMESPACE": NAMESPACE,
            "RHAPSODE_WATCH_NAMESPACES": NAMESPACE,
            "RHAPSODE_PORT": str(port),
        }
        with (self._server.folder / "operator.log").open("ab") as log:
            began = time.perf_counter()
            process = subprocess.Popen(COMMAND, cwd=ROOT, env=os.environ | environ, stdout=log, stderr=log)
        with _ending(process):
            yield Operator(process, port, began)

    @contextlib.contextmanager
    def leader(self) -> Iterator[Operator]:
        """Run an operator that leads."""
        with self.operator() as operator:
            wait_until(lambda: operator.metrics().get("rhapsode_leader") == 1, "the operator leads")
            time.sleep(2)  # kopf begins to watch
            yield operator

    @contextlib.contextmanager
    def nodes(self, vram_s: float = 5.0) -> Iterator[Nodes]:
        """Run hollow nodes until the block ends."""
        server = self._server
        given = (server.url, server.token, str(server.certificate), str(vram_s))
        command = [sys.executable, "-m", "bench.operator.nodes", *given]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with _ending(process):
            yield Nodes(process)


@contextlib.contextmanager
def _ending(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Build a stage, and take it down."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = ApiServer(Path(folder), find_tools())
        try:
            server.start()
            server.install_crd(CRD)
            server.namespace(NAMESPACE)
            yield Stage(server)
        finally:
            server.stop()

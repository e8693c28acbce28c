"""A stand-in for the scheduler and the kubelets of a cluster: it really runs the containers of pods, as processes.

Used by tests of the operator and by its bench: `with Kubelet(api_server) as kubelet: ...`. It follows all pods of the
API server, places them on nodes of its own, runs them (`pod_lives`) or only says so (`hollow_s`, `hollow_lives`),
and reports what a kubelet reports. What goes wrong is scripted with its methods, by name or pattern of pods.
"""

import asyncio
import contextlib
import shutil
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

from support.api_client import ApiError
from support.api_server import ApiServer
from support.kubelet_faults import Fault, Faults
from support.kubelet_loop import KubeletLoop
from support.node_books import NodeBook, amount
from support.pod_containers import Container
from support.pod_lives import PodLife
from support.pod_probes import Pace
from support.pod_statuses import GPU, now
from support.processes import DEADLINE_S, wait_until

JSON = dict[str, Any]
T = TypeVar("T")


class Kubelet:
    """Nodes that run pods."""

    def __init__(
        self,
        server: ApiServer,
        *,
        nodes: dict[str, int] | None = None,
        pace: Pace | None = None,
        hollow_s: float | None = None,
        environ: dict[str, str] | None = None,
    ) -> None:
        """`nodes` says how many GPUs each has; `environ` is added to every container's environment."""
        self._server = server
        self._nodes = nodes or {"node-0": 8}
        self._folder = Path(tempfile.mkdtemp(prefix="rk-"))
        self.faults = Faults()
        capacity = {name: Counter({GPU: amount(gpus), "cpu": amount(4096)}) for name, gpus in self._nodes.items()}
        self._loop = KubeletLoop(
            server, NodeBook(capacity), self._folder, self.faults, pace or Pace(), environ or {}, hollow_s
        )
        self._thread = threading.Thread(target=self._loop.run, name="kubelet", daemon=True)

    def __enter__(self) -> Self:
        for name, gpus in self._nodes.items():
            _register(self._server, name, gpus)
        self._thread.start()
        assert self._loop.up.wait(DEADLINE_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        """End every process, and leave no pod and no node behind."""
        left = self._do(self._loop.close)
        self._thread.join(DEADLINE_S)
        self._server.start()
        for path in [*left, *(f"/api/v1/nodes/{name}" for name in self._nodes)]:
            self._remove(path)
        shutil.rmtree(self._folder, ignore_errors=True)
        if kind is None:
            assert self._loop.problems == [], self._loop.problems

    def _remove(self, path: str) -> None:
        try:
            self._server.delete(path, {"gracePeriodSeconds": 0})
        except ApiError as exc:
            if exc.status != 404:
                raise

    # What a test sees

    def logs(self, pod: str) -> str:
        """Return what the containers of pods wrote, also of pods that are gone."""
        named = [life for life in list(self._loop.seen) if fnmatchcase(life.pod["metadata"]["name"], pod)]
        return "".join(life.logs() for life in named)

    def processes(self, pod: str, container: str) -> list[psutil.Process]:
        """Return the processes of a container: its first one, and what that started."""
        return [process for one in self._containers(pod, container) for process in one.processes()]

    def address(self, pod: str) -> str:
        """Return the pod's IP."""
        return str(self._real(pod)[0].ip)

    def claim(self, namespace: str, name: str) -> Path:
        """Return the folder that stands for a claim."""
        folder = self._folder / "claims" / f"{namespace}.{name}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # What a test does

    def image_pull_fails(self, pod: str, container: str = "", times: int | None = None, message: str = "") -> Fault:
        """Refuse the image so many times, or until the fault is released."""
        return self.faults.add(Fault("pull_fails", pod, container, times, message))

    def image_pull_takes(self, pod: str, container: str = "", seconds: float | None = None) -> Fault:
        """Let the pull of an image take so long, or until the fault is released."""
        return self.faults.add(Fault("pull_takes", pod, container, seconds=seconds))

    def restart_takes(self, pod: str, container: str) -> Fault:
        """Let a container that has ended not begin again until the fault is released."""
        return self.faults.add(Fault("restart_takes", pod, container))

    def reject(self, pod: str, times: int | None = 1, message: str = "") -> Fault:
        """Let a node refuse the next pods as one does whose GPU is gone: UnexpectedAdmissionError."""
        return self.faults.add(Fault("reject", pod, times=times, message=message))

    def oom(self, pod: str, container: str) -> None:
        """Kill a container for memory: now if it runs, else as soon as it does."""
        if not self._do(lambda: self._oom(pod, container)):
            self.faults.add(Fault("oom", pod, container, times=1))

    def evict(self, pod: str, message: str = "The node was low on resource: memory.") -> None:
        """Evict pods from their node."""
        self._do(lambda: self._loop.fail(pod, "Evicted", message))

    def kill(self, pod: str, container: str, sent: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to every process of a container."""
        running = wait_until(lambda: self.processes(pod, container), f"{container} of {pod} runs")
        for process in running:
            with contextlib.suppress(psutil.NoSuchProcess):  # the first one's end takes the others along
                process.send_signal(sent)

    def freeze(self, pod: str, container: str) -> None:
        """Stop the container's processes where they are."""
        self.kill(pod, container, signal.SIGSTOP)

    def thaw(self, pod: str, container: str) -> None:
        self.kill(pod, container, signal.SIGCONT)

    def node_gone(self, node: str) -> None:
        """Lose a node: its processes end, nobody reports, and deletions wait for `node_deleted`.

        As the node controller does it, the node's Ready becomes Unknown and its pods' Ready becomes False.
        """
        lost = self._do(lambda: self._loop.lose(node))
        _say_ready(self._server, node, "Unknown", "NodeStatusUnknown")
        for path in lost:
            self._mark_unready(path)

    def node_deleted(self, node: str) -> None:
        """Delete a lost node: its pods are garbage, and are removed by force."""
        self._remove(f"/api/v1/nodes/{node}")
        for path in self._do(lambda: self._loop.bury(node)):
            self._remove(path)

    # Ways between the threads

    def _do(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(work(), self._loop.loop).result(60)

    async def _oom(self, pod: str, container: str) -> bool:
        running = [one for one in self._containers(pod, container) if one.state.doing == "running"]
        for one in running:
            one.oom()
        return bool(running)

    def _real(self, pod: str) -> list[PodLife]:
        lives = [life for life in list(self._loop.lives.values()) if isinstance(life, PodLife)]
        return [life for life in lives if fnmatchcase(life.pod["metadata"]["name"], pod)]

    def _containers(self, pod: str, container: str) -> Iterator[Container]:
        return (life.container(container) for life in self._real(pod))

    def _mark_unready(self, path: str) -> None:
        condition = {"type": "Ready", "status": "False", "lastTransitionTime": now()}
        try:
            self._server.patch(f"{path}/status", {"status": {"conditions": [condition]}}, "strategic")
        except ApiError as exc:
            if exc.status != 404:
                raise


def _register(server: ApiServer, name: str, gpus: int) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
    }
    server.admin.apply(f"/api/v1/nodes/{name}", body)
    amounts = {GPU: str(gpus), "cpu": "4096", "memory": "1Ti", "pods": "10000"}
    server.patch(f"/api/v1/nodes/{name}/status", {"status": {"capacity": amounts, "allocatable": amounts}})
    server.patch(f"/api/v1/nodes/{name}", {"spec": {"taints": None}})
    _say_ready(server, name, "True", "KubeletReady")


def _say_ready(server: ApiServer, node: str, status: str, reason: str) -> None:
    condition = {"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": now()}
    server.patch(f"/api/v1/nodes/{node}/status", {"status": {"conditions": [condition]}}, "strategic")

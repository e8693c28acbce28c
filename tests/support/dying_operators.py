"""An operator without a process that is killed at an exact point: before or after its n-th call to the API server.

Used by `tests/operator/test_whole_kills.py`. The reconciler and its queue are the real ones, and so are the calls;
what the process around them does (lists, then watches, then works) is done here in a few lines.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from rhapsode_operator.building import Images
from rhapsode_operator.kube import Kube
from rhapsode_operator.metrics import Metrics
from rhapsode_operator.observing import POD_LABEL, Pod, Worker, read_pod, read_worker
from rhapsode_operator.posting import Poster
from rhapsode_operator.queueing import Key, Queue
from rhapsode_operator.reconciling import Ports, Reconciler
from support.api_stream import ApiStream
from support.operators import PATIENCE_S

JSON = dict[str, Any]
IMAGES = Images(relay="relay:test", worker_cpu="worker:test", worker_tensorrt_llm="trt:test")
CALLS = ("apply", "create", "annotate", "delete", "read", "apply_status", "create_event")


class Killed(BaseException):
    """The operator is no more."""


class MortalKube:
    """The API server's client of an operator that dies at its n-th call, or right after the server has done it."""

    def __init__(self, kube: Kube, calls: int, *, after: bool) -> None:
        self._kube, self._left, self._after = kube, calls, after
        self.died = asyncio.Event()
        self.sent: set[asyncio.Task[Any]] = set()
        """Calls that the server has not answered yet."""

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        assert name in CALLS, name
        call: Callable[..., Coroutine[Any, Any, Any]] = getattr(self._kube, name)

        async def step(*args: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left < 0 or (self._left == 0 and not self._after):
                self._die()
            answer = await asyncio.shield(self._send(call(*args, **named)))
            if self._left <= 0:
                self._die()
            return answer

        return step

    def _send(self, call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(call)
        self.sent.add(task)
        task.add_done_callback(self._answered)
        return task

    def _answered(self, task: asyncio.Task[Any]) -> None:
        self.sent.discard(task)
        if not task.cancelled():
            task.exception()  # a refusal that reaches nobody any more

    def _die(self) -> None:
        self.died.set()
        raise Killed


class Informer:
    """What a new process lists and then watches."""

    def __init__(self, api: ApiStream, namespace: str, queue: Queue) -> None:
        self._api, self._queue = api, queue
        self._paths = {
            "workers": f"/apis/rhapsode.dev/v1alpha1/namespaces/{namespace}/inferenceworkers",
            "pods": f"/api/v1/namespaces/{namespace}/pods?labelSelector={POD_LABEL}",
        }
        self._workers: dict[Key, Worker] = {}
        self._pods: dict[str, tuple[Key, Pod]] = {}
        self._listed = {name: asyncio.Event() for name in self._paths}

    async def wait_listed(self) -> None:
        for listed in self._listed.values():
            await listed.wait()

    async def follow(self, what: str) -> None:
        """Keep what is told of one kind, until cancelled."""
        async for kind, told in self._api.follow(self._paths[what]):
            for body in told:
                key = self._take_worker(kind, body) if what == "workers" else self._take_pod(kind, body)
                self._queue.add(key)
            self._listed[what].set()

    def _take_worker(self, kind: str, body: JSON) -> Key:
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        if kind == "GONE":
            self._workers.pop(key, None)
        else:
            self._workers[key] = read_worker(body)
        return key

    def _take_pod(self, kind: str, body: JSON) -> Key:
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["labels"][POD_LABEL])
        if kind == "GONE":
            self._pods.pop(metadata["uid"], None)
        else:
            self._pods[metadata["uid"]] = key, read_pod(body)
        return key

    # What a reconciler asks

    def worker(self, key: Key) -> Worker | None:
        return self._workers.get(key)

    def pods(self, key: Key) -> list[Pod]:
        return [pod for whose, pod in self._pods.values() if whose == key]

    def keys(self) -> list[Key]:
        return list(self._workers)

    def settled(self) -> list[str]:
        """Return the names of the resources whose present spec is served."""
        return [worker.name for worker in self._workers.values() if _is_settled(worker)]


class MortalOperator:
    """One life: `await live(until)` returns when it was killed, or when `until` says so."""

    def __init__(self, kube: Kube, api: ApiStream, namespace: str, calls: int, *, after: bool = False) -> None:
        metrics = Metrics()
        self._queue = Queue(metrics)
        self.informer = Informer(api, namespace, self._queue)
        self._mortal: Any = MortalKube(kube, calls, after=after)
        poster = Poster(self._mortal, metrics)
        ports = Ports(cluster=self._mortal, store=self.informer, line=self._queue, meter=metrics, poster=poster)
        self._reconciler = Reconciler(ports, IMAGES, "mortal")

    async def live(self, until: Callable[[Informer], Awaitable[bool]], limit_s: float = PATIENCE_S) -> bool:
        """Work; return whether it was killed. TimeoutError if neither comes."""
        tasks = [asyncio.create_task(self.informer.follow(what)) for what in ("workers", "pods")]
        try:
            async with asyncio.timeout(limit_s):
                await self.informer.wait_listed()
                await self._reconciler.start()
                tasks.append(asyncio.create_task(self._queue.run(self._reconciler.reconcile, 4)))
                while not self._mortal.died.is_set():
                    if await until(self.informer):
                        return False
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._mortal.died.wait(), 0.05)
                return True
        finally:
            for task in tasks:
                task.cancel()
            # what it had sent is done or refused when the next one begins: a Lease lies between two operators
            await asyncio.gather(*tasks, *self._mortal.sent, return_exceptions=True)
            await self._reconciler.stop()


def _is_settled(worker: Worker) -> bool:
    status = worker.status
    ready = next((one for one in status.conditions if one.type == "Ready"), None)
    return bool(ready and ready.status == "True" and status.observed_generation == worker.generation)

"""The stand-in's own thread: follows pods, places them, gives each a life. Driven by `kubelet` from the test's thread."""

import asyncio
import itertools
import threading
from collections.abc import Coroutine
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import aiohttp

from support.api_client import ApiError
from support.api_server import ApiServer
from support.api_stream import ApiStream
from support.hollow_lives import HollowLife
from support.kubelet_faults import Faults
from support.loops import settle
from support.node_books import NodeBook
from support.pod_lives import PodLife
from support.pod_probes import Pace
from support.pod_reports import House, Life, path_of
from support.pod_statuses import now, unschedulable
from support.processes import NETWORK

JSON = dict[str, Any]
OVER = ("Succeeded", "Failed")
_numbers = itertools.count(1)
_promised: dict[tuple[str, str], str] = {}
"""Addresses of pods to come, by namespace and name."""


class KubeletLoop:
    """The event loop of one stand-in."""

    def __init__(
        self,
        server: ApiServer,
        book: NodeBook,
        folder: Path,
        faults: Faults,
        pace: Pace,
        environ: dict[str, str],
        hollow_s: float | None,
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.up = threading.Event()
        self.lives: dict[str, Life] = {}
        self.seen: list[PodLife] = []
        """All that ever ran here: what they wrote stays until the end."""
        self.problems: list[str] = []
        """What went wrong in the stand-in itself."""
        self._server, self._book, self._folder = server, book, folder
        self._faults, self._pace, self._environ, self._hollow_s = faults, pace, environ, hollow_s
        self._pods: dict[str, JSON] = {}
        self._waiting: dict[str, str] = {}
        """By uid of a pod that has no node: what it was told about that."""
        self._lost: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        """Be the thread."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._closing = asyncio.Event()
        self._api = ApiStream(self._server.url, self._server.token, self._server.certificate)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http:
            self._house = House(
                self._api, http, self._folder, self._faults, self._pace, self._environ, self.spawn, self.tell
            )
            self._following = self.spawn(self._follow())
            self.up.set()
            await self._closing.wait()
            await self._end(*self._tasks)
            await self._api.close()
        await settle()

    # What the other thread asks

    async def close(self) -> list[str]:
        """End everything; return the paths of the pods that are left.

        No pod is followed any more by then: one that an operator makes meanwhile would begin when all have ended.
        Also those end that are gone for the API server already: their processes may need a moment yet.
        """
        await self._end(self._following)
        await asyncio.gather(*(life.abandon() for life in (*self.seen, *self.lives.values())))
        self._closing.set()
        ours = (*self._book.capacity, *self._lost, None)
        return [path_of(pod) for pod in self._pods.values() if pod["spec"].get("nodeName") in ours]

    async def fail(self, pattern: str, reason: str, message: str) -> None:
        """Fail the pods of a name."""
        hit = [uid for uid, pod in self._pods.items() if fnmatchcase(pod["metadata"]["name"], pattern)]
        await asyncio.gather(*(self.lives[uid].fail(reason, message) for uid in hit if uid in self.lives))
        for uid in hit:
            if uid in self._pods:
                self.tell(self._pods[uid], "Warning", reason, message)

    async def lose(self, node: str) -> list[str]:
        """Let a node be silent; return the paths of its pods."""
        self._lost.add(node)
        self._book.capacity.pop(node, None)
        found = self._on(node)
        for uid in found:
            if life := self.lives.pop(uid, None):
                await life.abandon()
        return [path_of(self._pods[uid]) for uid in found]

    async def bury(self, node: str) -> list[str]:
        """Return the paths of the pods of a node that is no more."""
        return [path_of(self._pods[uid]) for uid in self._on(node)]

    def _on(self, node: str) -> list[str]:
        return [uid for uid, pod in self._pods.items() if pod["spec"].get("nodeName") == node]

    # Pods come and go

    async def _follow(self) -> None:
        async for kind, told in self._api.follow("/api/v1/pods"):
            if kind == "LISTED":
                for uid in set(self._pods) - {pod["metadata"]["uid"] for pod in told}:
                    self._forget(uid)
            for pod in told:
                if kind == "GONE":
                    self._forget(pod["metadata"]["uid"])
                else:
                    self._see(pod)
            self._place()

    def _see(self, pod: JSON) -> None:
        uid, node = pod["metadata"]["uid"], pod["spec"].get("nodeName")
        self._pods[uid] = pod
        if not node:
            self._waiting.setdefault(uid, "")
            return
        self._waiting.pop(uid, None)
        if node in self._lost or node not in self._book.capacity:
            return
        over = pod.get("status", {}).get("phase") in OVER
        if over:
            self._book.release(uid)
        else:
            self._book.claim(pod, node)
        if uid in self.lives:
            self.lives[uid].update(pod)
        elif not over:
            self.lives[uid] = self._live(pod)

    def _live(self, pod: JSON) -> Life:
        number, metadata = next(_numbers), pod["metadata"]
        ip = _promised.get((metadata["namespace"], metadata["name"])) or _address(number)
        if self._hollow_s is not None:
            return HollowLife(self._house, pod, ip, self._hollow_s)
        self.seen.append(PodLife(self._house, pod, ip, number))
        return self.seen[-1]

    def _forget(self, uid: str) -> None:
        self._pods.pop(uid, None)
        self._waiting.pop(uid, None)
        self._book.release(uid)
        if life := self.lives.pop(uid, None):
            self.spawn(life.abandon())

    # Scheduling

    def _place(self) -> None:
        """Give nodes to pods that have none, and say what is missing where there is none for them."""
        for uid, told in list(self._waiting.items()):
            pod = self._pods[uid]
            node, words = self._book.place(pod)
            if node:
                del self._waiting[uid]
                self._book.claim(pod, node)
                self.spawn(self._bind(pod, node))
            elif words != told:
                self._waiting[uid] = words
                self.spawn(self._refuse(pod, words))

    async def _bind(self, pod: JSON, node: str) -> None:
        metadata = {key: pod["metadata"][key] for key in ("name", "uid")}
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
        try:
            await self._api.send("POST", f"{path_of(pod)}/binding", body)
        except ApiError as exc:
            self._book.release(pod["metadata"]["uid"])
            if exc.status not in (404, 409):
                raise

    async def _refuse(self, pod: JSON, words: str) -> None:
        self.tell(pod, "Warning", "FailedScheduling", words)
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": unschedulable(words)}
        try:
            await self._api.send("PATCH", f"{path_of(pod)}/status", body, "strategic")
        except ApiError as exc:
            if exc.status not in (404, 409):
                raise

    # Chores

    @staticmethod
    async def _end(*tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task whose failure is a problem of the stand-in."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.problems.append(repr(exc))

    def tell(self, pod: JSON, kind: str, reason: str, message: str) -> None:
        """Post an Event about a pod."""
        if self._hollow_s is None:
            self.spawn(self._post(pod, kind, reason, message))

    async def _post(self, pod: JSON, kind: str, reason: str, message: str) -> None:
        metadata = pod["metadata"]
        about = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")}
        body = {
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", **about},
            "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now(), "lastTimestamp": now(), "source": {"component": "kubelet"},
        }  # fmt: skip
        try:
            await self._api.send("POST", f"/api/v1/namespaces/{metadata['namespace']}/events", body)
        except ApiError as exc:
            if exc.status not in (403, 404):
                raise


def promise_address(namespace: str, name: str) -> str:
    """Return the address that a pod will have, for a test that must know it before."""
    return _promised.setdefault((namespace, name), _address(next(_numbers)))


def _address(number: int) -> str:
    return f"{NETWORK}.{number // 250 % 250}.{1 + number % 250}"

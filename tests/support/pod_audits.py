"""What happened to the pods of a namespace, seen from outside: a watch of our own beside the operator's.

Used by `tests/operator/test_whole_*.py`: the invariants of a rollout are judged by it, never by what the operator says.
"""

import asyncio
import threading
from collections import Counter, defaultdict
from types import TracebackType
from typing import Any, Self

from support.api_server import ApiServer
from support.api_stream import ApiStream
from support.loops import settle
from support.operators import PATIENCE_S
from support.processes import DEADLINE_S, wait_until

JSON = dict[str, Any]
FROZEN = ("rhapsode.dev/pod-hash", "rhapsode.dev/manifest")
"""Annotations that say what a pod was made from: its processes read them once."""


class PodAudit:
    """`with PodAudit(server, namespace, most={"sim": 2}) as audit: ...`; `problems` should be empty at the end."""

    def __init__(self, server: ApiServer, namespace: str, most: dict[str, int]) -> None:
        self.problems: list[str] = []
        self.story: list[str] = []
        """`+ sim-0` where a pod came, `- sim-0` where it went: in order, by the name of its worker in `made`."""
        self.made: Counter[str] = Counter()
        self.fewest: dict[str, int] = {}
        """By worker: the fewest pods that served at once, since `begin_to_count`."""
        self._server, self._most = server, most
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._pods: dict[str, JSON] = {}
        self._seen: dict[str, int] = {}
        """By uid: the newest version that was told."""
        self._counting: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._listed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listed.wait(DEADLINE_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(DEADLINE_S)
        if kind is None:
            assert self.problems == []

    def begin_to_count(self, *workers: str) -> None:
        """Watch from now on how many pods serve."""
        self.catch_up()
        for name in workers:
            self.fewest[name] = self._served(name)
            self._counting.add(name)

    def wait_made(self, count: int) -> None:
        """Wait until so many pods were made in all."""
        wait_until(lambda: self.made.total() >= count, f"{count} pods are made: {self.story[-8:]}", PATIENCE_S)

    def catch_up(self) -> None:
        """Wait until all that has happened so far was seen."""
        there = {pod["metadata"]["uid"]: _version(pod) for pod in self._server.admin.items(self._path)}
        wait_until(lambda: all(self._seen.get(uid, 0) >= there[uid] for uid in there), f"the audit has seen {there}")

    # Its thread

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._task = asyncio.create_task(self._follow())
        await asyncio.gather(self._task, return_exceptions=True)
        await settle()

    async def _follow(self) -> None:
        api = ApiStream(self._server.url, self._server.token, self._server.certificate)
        try:
            async for kind, told in api.follow(self._path):
                if kind == "LISTED":
                    self._forget(set(self._pods) - {pod["metadata"]["uid"] for pod in told})
                for pod in told:
                    self._forget({pod["metadata"]["uid"]}) if kind == "GONE" else self._see(pod)
                self._listed.set()
        finally:
            await api.close()

    # What it judges

    def _forget(self, uids: set[str]) -> None:
        for uid in uids:
            if pod := self._pods.pop(uid, None):
                self.story.append(f"- {pod['metadata']['name']}")

    def _see(self, pod: JSON) -> None:
        metadata = pod["metadata"]
        before = self._pods.get(metadata["uid"])
        self._pods[metadata["uid"]] = pod
        self._seen[metadata["uid"]] = _version(pod)
        name = metadata.get("labels", {}).get("rhapsode.dev/worker", "")
        if before is None:
            self.made[name] += 1
            self.story.append(f"+ {metadata['name']}")
            self._check_new(name, metadata["name"])
        elif changed := [one for one in FROZEN if _note(before, one) != _note(pod, one)]:
            self.problems.append(f"{metadata['name']} was changed in place: {changed}")
        if name in self._counting:
            self.fewest[name] = min(self.fewest[name], self._served(name))

    def _check_new(self, worker: str, pod: str) -> None:
        names = Counter(one["metadata"]["name"] for one in self._pods.values())
        if names[pod] > 1:
            self.problems.append(f"{pod} was made while there was one of that name")
        holding = [one["metadata"]["name"] for one in self._of(worker) if not _over(one)]
        if len(holding) > self._most.get(worker, 256):
            self.problems.append(f"{worker} had {sorted(holding)} at once")

    def _served(self, worker: str) -> int:
        return sum(_serves(pod) for pod in self._of(worker))

    def _of(self, worker: str) -> list[JSON]:
        found = defaultdict(list)
        for pod in list(self._pods.values()):
            found[pod["metadata"].get("labels", {}).get("rhapsode.dev/worker", "")].append(pod)
        return found[worker]


def _version(pod: JSON) -> int:
    """Return a number that grows with each change of a pod."""
    return int(pod["metadata"]["resourceVersion"])


def _note(pod: JSON, annotation: str) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(annotation, ""))


def _over(pod: JSON) -> bool:
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def _serves(pod: JSON) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")

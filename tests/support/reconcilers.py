"""A reconciler over a fake cluster, with a clock that the test turns. No relay ever answers."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from rhapsode_contract.statuses import Condition, Status
from rhapsode_operator.acting import Cluster
from rhapsode_operator.building import Images
from rhapsode_operator.errors import OperatorError
from rhapsode_operator.posting import Poster
from rhapsode_operator.queueing import Key
from rhapsode_operator.reconciling import Ports, Reconciler
from support.fake_cluster import FakeCluster
from support.snapshots import resource

JSON = dict[str, Any]
KEY = ("ns", "w")
IMAGES = Images(relay="relay:1", worker_cpu="worker:1", worker_tensorrt_llm="gpu:1")


class Meter:
    """Counts what a reconciler counts; of queue and poster nothing."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.phases: dict[str, int] = {}
        self.conditions: dict[Key, dict[str, str]] = {}

    def status_written(self, manager: str) -> None:
        self.written.append(manager)

    def workers_by_phase(self, counts: dict[str, int]) -> None:
        self.phases = counts

    def worker_conditions(self, key: Key, conditions: Sequence[Condition]) -> None:
        self.conditions[key] = {one.type: one.reason for one in conditions}

    def event_posted(self, result: str) -> None: ...
    def added(self) -> None: ...
    def retried(self) -> None: ...
    def waited(self, seconds: float) -> None: ...
    def worked(self, result: str, seconds: float) -> None: ...


class Later:
    """A queue that only remembers."""

    def __init__(self) -> None:
        self.added: list[Key] = []
        self.after: list[float] = []
        """The seconds of each `add_after`."""

    def add(self, key: Key) -> None:
        self.added.append(key)

    def add_after(self, key: Key, seconds: float) -> None:
        self.after.append(seconds)


class Reconciling:
    """One operator process, as far as a test needs it."""

    def __init__(self, cluster: FakeCluster, api: Any = None) -> None:
        self.cluster, self.now, self.meter = cluster, 1000.0, Meter()
        self.poster = Poster(cluster, self.meter)
        self.later = Later()
        ports = Ports(
            cluster=api or cluster, store=cluster, line=self.later, meter=self.meter, poster=self.poster
        )  # fmt: skip
        self.reconciler = Reconciler(ports, IMAGES, "operator-0", clock=lambda: self.now)

    async def run(self, times: int = 1, key: Key = KEY) -> float | None:
        """Reconcile so often, and return what the last time said."""
        again = None
        for _ in range(times):
            self.now += 0.1
            again = await self.reconciler.reconcile(key)
        return again

    async def refuse(self, key: Key = KEY) -> OperatorError:
        """Reconcile, and return what it raised."""
        self.now += 0.1
        try:
            await self.reconciler.reconcile(key)
        except OperatorError as exc:
            return exc
        raise AssertionError("nothing was refused")

    @property
    def status(self) -> Status:
        """What stands in the cluster."""
        found = self.cluster.worker(KEY)
        assert found is not None
        return found.status

    def condition(self, kind: str = "Ready") -> Condition:
        return next(one for one in self.status.conditions if one.type == kind)

    def reasons(self) -> list[str]:
        """Return the Events that were posted."""
        return [f"{one['type']} {one['reason']}" for one in self.cluster.events]


@contextlib.asynccontextmanager
async def reconciling(cluster: FakeCluster, api: Cluster | None = None) -> AsyncIterator[Reconciling]:
    """Run a reconciler; at the end its Events are posted."""
    made = Reconciling(cluster, api)
    await made.reconciler.start()
    try:
        yield made
    finally:
        await made.reconciler.stop()


def cluster_with(**spec: Any) -> FakeCluster:
    """Return a cluster with the resource `w`."""
    cluster = FakeCluster()
    cluster.put(resource(**spec))
    return cluster


def become(cluster: FakeCluster, name: str, status: JSON, node: str = "n1") -> None:
    """Let a pod of the cluster have another status, as its kubelet writes it."""
    body = cluster.get("Pod", name)
    cluster.put(body | {"spec": body["spec"] | {"nodeName": node}, "status": status}, "kubelet")

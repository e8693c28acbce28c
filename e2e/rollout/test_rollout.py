"""A changed spec replaces pods one at a time, while clients stream: every stream whole, none lost."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from e2e.clients import Client
from e2e.clusters import Cluster, until
from e2e.conftest import Apply
from e2e.operators import Operator
from e2e.workers import Applied, worker

STREAMS = 20


class Census:
    """Counts pods all the while, to see whether there are ever too many."""

    def __init__(self, applied: Applied) -> None:
        self.most = 0
        self._applied = applied
        self._over = threading.Event()
        self._counter = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._counting = self._counter.submit(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        """End it. Raises what it died of: it would have counted too few."""
        self._over.set()
        self._counting.result(60)

    def _count(self) -> None:
        while not self._over.wait(0.2):
            self.most = max(self.most, len(self._applied.pods()))


def _choir(apply: Apply, replicas: int) -> Applied:
    engine = {"name": "Simulator", "maxSequences": STREAMS, "options": {"tokensPerSecond": 40}}
    choir = apply(worker("choir", engine=engine, replicas=replicas, rollout={"timeoutSeconds": 120}))
    choir.ready(replicas=replicas)
    return choir


def _uids(applied: Applied) -> set[str]:
    return {pod["metadata"]["uid"] for pod in applied.pods()}


def _ends(results: list[dict[str, Any]]) -> set[tuple[str, bool, int]]:
    return {(one["how"], one.get("whole", False), one.get("tokens", 0)) for one in results}


def test_twenty_streams_outlive_a_rolling_update_byte_for_byte(apply: Apply, client: Client) -> None:
    choir = _choir(apply, 2)
    before = _uids(choir)
    with Census(choir) as census, client.asking(
        "choir", choir.namespace, "--streams", str(STREAMS), "--tokens", "600"
    ) as asking:  # fmt: skip
        asking.until(lambda told: sum(one["what"] == "first_token" for one in told) == STREAMS, "all stream")
        choir.patch({"podTemplate": {"metadata": {"annotations": {"song": "second"}}}})
        newcomers = []
        while not _is_over(choir, before):
            newcomers.append(client.ask("choir", choir.namespace, "--tokens", "10"))
        results = asking.results(STREAMS, 180)
    assert _ends(results) == {("end", True, 600)}
    assert [one["cuts"] for one in results] == [0] * STREAMS
    assert _ends(newcomers) == {("end", True, 10)}
    assert census.most <= 2
    assert not [line for line in asking.lines if line["what"] in ("torn", "gap")]


def _is_over(choir: Applied, before: set[str]) -> bool:
    status = choir.status()
    return status.get("updatedReplicas") == status.get("readyReplicas") == 2 and not before & _uids(choir)


def test_an_operator_that_is_killed_in_a_rollout_is_followed_by_the_other(
    apply: Apply, operator: Operator, cluster: Cluster
) -> None:
    choir = _choir(apply, 3)
    before = _uids(choir)
    with Census(choir) as census:
        choir.patch({"podTemplate": {"metadata": {"annotations": {"song": "second"}}}})
        until(lambda: len(before - _uids(choir)) >= 1, "the first pod is replaced", 90)
        killed = operator.kill_leader()
        until(lambda: not before & _uids(choir), "every pod is replaced", 150)
        choir.ready(replicas=3)
    assert census.most <= 3
    until(lambda: operator.leader() not in ("", killed), "another operator leads")

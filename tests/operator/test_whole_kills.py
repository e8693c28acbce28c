"""An operator that is killed at any point of a rollout leaves nothing that the next one does not put right.

Judged by a watch of the test's own: never more pods than wanted, no name made while its old pod exists, nothing
changed in place, at most one pod of a worker away at a time; and in the end all is as the specs say.
"""

import itertools
import random
from collections.abc import Iterator

import pytest

from support.api_stream import ApiStream
from support.dying_operators import Informer, MortalOperator
from support.kube import connected
from support.kubelet import Kubelet
from support.operators import Cluster, kill
from support.pod_audits import PodAudit

NAMES = tuple("abcdef")
REPLICAS = 2
POINTS = 200
"""Kills at exact points."""
KILLS = 12
"""Kills of a process."""
FOREVER = 1_000_000


@pytest.fixture
def hollow(cluster: Cluster) -> Iterator[Kubelet]:
    """Nodes whose pods only say that they run."""
    with Kubelet(cluster.server, hollow_s=0.02) as running:
        yield running


@pytest.fixture
def audit(cluster: Cluster) -> Iterator[PodAudit]:
    with PodAudit(cluster.server, cluster.namespace, dict.fromkeys(NAMES, REPLICAS)) as watching:
        yield watching


class Rollouts:
    """Always another rollout: as soon as a worker serves its spec it gets a new one."""

    def __init__(self, cluster: Cluster, api: ApiStream) -> None:
        self._path = f"/apis/rhapsode.dev/v1alpha1/namespaces/{cluster.namespace}/inferenceworkers"
        self._api = api
        self._seeds = itertools.count(1)
        self.begun = 0

    async def go_on(self, informer: Informer) -> bool:
        for name in informer.settled():
            spec = {"engine": engine(next(self._seeds))}
            await self._api.send("PATCH", f"{self._path}/{name}", {"spec": spec}, "merge")
            self.begun += 1
        return False


def engine(seed: int) -> dict[str, object]:
    """Return an engine that no pod runs yet."""
    return {"name": "Simulator", "options": {"seed": seed}}


def apply_all(cluster: Cluster) -> None:
    for name in NAMES:
        cluster.apply(name, replicas=REPLICAS, rollout={"waitForIdle": False})


async def all_settled(informer: Informer) -> bool:
    return len(informer.settled()) == len(NAMES)


async def test_a_kill_between_any_two_calls_is_safe(cluster: Cluster, hollow: Kubelet, audit: PodAudit) -> None:
    apply_all(cluster)
    chance, server = random.Random(7), cluster.server
    api = ApiStream(server.url, server.token, server.certificate)
    try:
        async with connected(server) as kube:
            await MortalOperator(kube, api, cluster.namespace, FOREVER).live(all_settled)
            audit.begin_to_count(*NAMES)
            rollouts = Rollouts(cluster, api)
            for point in range(POINTS):
                calls = chance.randint(1, chance.choice((8, 30, 90)))
                operator = MortalOperator(kube, api, cluster.namespace, calls, after=bool(point % 2))
                assert await operator.live(rollouts.go_on), f"point {point}"
            await MortalOperator(kube, api, cluster.namespace, FOREVER).live(all_settled)
    finally:
        await api.close()
    assert rollouts.begun > 2 * len(NAMES), "there was always something to do"
    assert_all_is_right(cluster, audit)


def test_a_process_that_is_killed_at_random_is_followed_by_one_that_goes_on(
    cluster: Cluster, hollow: Kubelet, audit: PodAudit
) -> None:
    chance = random.Random(7)
    cluster.operate()
    apply_all(cluster)
    for name in NAMES:
        cluster.wait_ready(name)
    audit.begin_to_count(*NAMES)
    for number in range(KILLS):
        made, more = audit.made.total(), chance.randint(1, REPLICAS * len(NAMES))
        for name in NAMES:
            cluster.patch(name, {"engine": engine(number + 1)})
        audit.wait_made(made + more)
        kill(cluster.operators[-1])
        cluster.operate()
    for name in NAMES:
        cluster.wait_ready(name)
    assert_all_is_right(cluster, audit)
    assert all(operator.complaints() == [] for operator in cluster.operators)


def assert_all_is_right(cluster: Cluster, audit: PodAudit) -> None:
    audit.catch_up()
    assert audit.problems == []
    assert all(audit.fewest[name] >= REPLICAS - 1 for name in NAMES), audit.fewest
    for name in NAMES:
        status = cluster.wait_ready(name)
        assert status["replicas"] == status["readyReplicas"] == status["updatedReplicas"] == REPLICAS
        assert sorted(cluster.pods(name)) == [f"{name}-{ordinal}" for ordinal in range(REPLICAS)]

"""Deletion, which needs no operator: no finalizer holds anything, and Kubernetes collects what is owned."""

from collections.abc import Iterator

import pytest

from support.api_server import ApiServer, ControllerManager
from support.kubelet import Kubelet
from support.operators import CRD, PATIENCE_S, Cluster, kill
from support.processes import wait_until

SLOW = {"load": [{"stage": "loading weights", "seconds": 600}]}
OWNED = "pods,services,poddisruptionbudgets,configmaps"


@pytest.fixture(scope="module", autouse=True)
def collectors(api_server: ApiServer) -> Iterator[None]:
    """The controllers that collect garbage and end namespaces; of a later CRD they would know after half a minute."""
    api_server.install_crd(CRD)
    with ControllerManager(api_server):
        yield


def owned(cluster: Cluster, name: str = "sim") -> str:
    return cluster.kubectl("get", OWNED, "-l", f"rhapsode.dev/worker={name}", "-o", "name")


def test_a_deletion_returns_at_once_and_leaves_nothing_although_no_operator_runs(
    cluster: Cluster, kubelet: Kubelet
) -> None:
    operator = cluster.operate()
    cluster.apply(replicas=2)
    cluster.wait_ready()
    assert owned(cluster).split() == [
        "pod/sim-0", "pod/sim-1", "service/sim", "service/sim-pods", "poddisruptionbudget.policy/sim",
    ]  # fmt: skip
    kill(operator)
    found = cluster.find()
    assert found is not None
    assert "finalizers" not in found["metadata"], "kubectl would wait for them"
    cluster.kubectl("delete", "iw/sim", "--timeout=120s")
    assert cluster.find() is None
    wait_until(lambda: owned(cluster) == "", "nothing is left", PATIENCE_S)


def test_a_deletion_in_the_middle_of_a_load_ends_it_and_a_new_one_of_that_name_begins_anew(
    cluster: Cluster, kubelet: Kubelet
) -> None:
    operator = cluster.operate()
    cluster.apply(options=SLOW)
    cluster.wait_condition("Ready", "Loading")
    before = cluster.uids()
    cluster.kubectl("delete", "iw/sim")
    cluster.apply()
    cluster.wait_ready()
    assert list(cluster.uids()) == ["sim-0"]
    assert cluster.uids() != before
    cluster.kubectl("delete", "iw/sim")
    wait_until(lambda: owned(cluster) == "", "nothing is left", PATIENCE_S)
    assert operator.complaints() == []
    assert operator.errors == []


def test_a_deleted_namespace_takes_all_with_it_and_an_operator_elsewhere_does_not_mind(
    cluster: Cluster, kubelet: Kubelet
) -> None:
    server = cluster.server
    served = Cluster(server, server.namespace())
    operator = cluster.operate(server.kubeconfig(), RHAPSODE_WATCH_NAMESPACES=served.namespace)
    served.apply(replicas=2)
    served.wait_ready()
    served.kubectl("delete", "namespace", served.namespace, "--timeout=120s")
    assert server.admin.find(f"/api/v1/namespaces/{served.namespace}") is None
    wait_until(lambda: operator.metric('rhapsode_workers{phase="Ready"}') == 0, "it is forgotten")
    server.namespace(served.namespace)
    served.apply()
    served.wait_ready()
    assert operator.complaints() == []
    assert operator.errors == []

"""What goes wrong with nodes, end to end: no room, evictions, refusals, a relay and a node that do not answer."""

import math
from collections.abc import Iterator

import pytest

from support.api_server import ApiServer
from support.kubelet import Kubelet
from support.operators import CRD, Cluster
from support.pod_audits import PodAudit
from support.pod_probes import Pace
from support.processes import wait_until
from support.troubles import assert_mended, assert_told

ON_LOST = {"spec": {"nodeSelector": {"kubernetes.io/hostname": "lost"}}}


@pytest.fixture(scope="module")
def kubelet(api_server: ApiServer) -> Iterator[Kubelet]:
    """Two nodes without liveness probes: a relay that is frozen is not restarted."""
    with Kubelet(api_server, nodes={"node-0": 8, "lost": 1}, pace=Pace(liveness_s=math.inf)) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(api_server: ApiServer, kubelet: Kubelet) -> Iterator[Cluster]:
    """An operator for all tests here."""
    api_server.install_crd(CRD)
    ours = Cluster(api_server, api_server.namespace())
    ours.operate()
    yield ours
    ours.close()


@pytest.fixture(scope="module")
def audit(cluster: Cluster, kubelet: Kubelet) -> Iterator[PodAudit]:
    """Who counts pods; two of the resource that the first test looks at are refused."""
    with PodAudit(cluster.server, cluster.namespace, {"reject": 1, "evict": 1, "far": 1}) as watching:
        kubelet.reject("reject-*", times=2)
        cluster.apply("reject")
        yield watching


def test_a_pod_that_a_node_refuses_comes_again(cluster: Cluster, kubelet: Kubelet, audit: PodAudit) -> None:
    assert_told(cluster, "reject", "PodRejected", "node-0 refused reject-0", "no healthy devices")
    wait_until(lambda: audit.made["reject"] >= 2, "it is made again")
    cluster.wait_status("reject", "counts that", lambda status: _replaced(status) >= 1)


def test_a_pod_that_fits_nowhere(cluster: Cluster, kubelet: Kubelet, audit: PodAudit) -> None:
    cluster.apply("big", gpus=9)
    assert_told(cluster, "big", "Unschedulable", "big-0 fits nowhere", "Insufficient nvidia.com/gpu")
    cluster.apply("big", gpus=8)
    assert_mended(cluster, "big", "Unschedulable")


def test_an_evicted_pod_is_made_again(cluster: Cluster, kubelet: Kubelet, audit: PodAudit) -> None:
    cluster.apply("evict")
    cluster.wait_ready("evict")
    kubelet.evict("evict-0")
    assert_told(cluster, "evict", "Evicted", "evict-0 was put out of node-0", "low on resource: memory")
    assert_mended(cluster, "evict", "Evicted")


def test_the_pods_of_a_lost_node_keep_their_names_until_the_node_is_deleted(
    cluster: Cluster, kubelet: Kubelet, audit: PodAudit
) -> None:
    cluster.apply("far", podTemplate=ON_LOST)
    cluster.wait_ready("far")
    before = cluster.uids("far")
    kubelet.node_gone("lost")
    assert_told(cluster, "far", "NodeLost", "node lost of far-0 does not answer")
    cluster.delete_pod("far-0")  # as the node controller does it after five minutes
    cluster.patch("far", {"podTemplate": None})
    cluster.wait_status("far", "tells of the new spec", lambda status: status["observedGeneration"] == 2)
    assert_told(cluster, "far", "NodeLost", "the pod's name is free only when Kubernetes is sure")
    assert cluster.uids("far") == before
    kubelet.node_deleted("lost")
    assert_mended(cluster, "far", "NodeLost")
    assert not set(cluster.uids("far").values()) & set(before.values())


def test_a_relay_that_does_not_answer_any_more(cluster: Cluster, kubelet: Kubelet, audit: PodAudit) -> None:
    cluster.apply("deaf", relay={"heartbeatSeconds": 1})
    cluster.wait_ready("deaf")
    kubelet.freeze("deaf-0", "relay")
    assert_told(cluster, "deaf", "RelayUnreachable", "the relay of deaf-0 at 127.")
    kubelet.thaw("deaf-0", "relay")
    assert_mended(cluster, "deaf", "RelayUnreachable")


def test_the_pauses_between_refused_pods_grow_until_one_is_taken(
    cluster: Cluster, kubelet: Kubelet, audit: PodAudit
) -> None:
    assert_mended(cluster, "reject", "PodRejected")
    audit.catch_up()
    assert audit.made["reject"] == 3, "two refusals make two pods more, and no storm"
    assert "replaced" not in cluster.status("reject")["workers"][0], "a pod that serves is forgiven"


def _replaced(status: dict[str, list[dict[str, int]]]) -> int:
    return status["workers"][0].get("replaced", 0) if status.get("workers") else 0


def test_nothing_of_it_is_a_complaint_of_the_operators_own(cluster: Cluster) -> None:
    (operator,) = cluster.operators
    assert operator.complaints() == []
    assert operator.errors == []

"""Contracts of turns, end to end: one that only the relay can refuse, and one that waits for its Secret."""

import base64
from collections.abc import Iterator

import pytest

from support.api_server import ApiServer
from support.contracts import contract
from support.kubelet import Kubelet
from support.operators import CRD, Cluster
from support.troubles import assert_mended, assert_told

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "journal"},
    "data": {"key": base64.b64encode(b"only-for-the-journal").decode()},
}


@pytest.fixture(scope="module")
def kubelet(api_server: ApiServer) -> Iterator[Kubelet]:
    with Kubelet(api_server) as running:
        yield running


@pytest.fixture
def cluster(api_server: ApiServer, kubelet: Kubelet) -> Iterator[Cluster]:
    api_server.install_crd(CRD)
    ours = Cluster(api_server, api_server.namespace())
    ours.operate()
    yield ours
    ours.close()


def test_a_contract_that_the_relay_refuses_stalls_the_worker_with_its_path(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", "-", body=SECRET)
    cluster.apply("dm", outcomes=[contract("sinks.0.part", "/intents/quest")])
    assert_told(cluster, "dm", "InvalidSpec", "spec.outcomes[0].sinks[0].part: the schema has no /intents/quest")
    cluster.apply("dm", outcomes=[contract()])
    assert_mended(cluster, "dm", "InvalidSpec")


def test_a_worker_waits_for_the_secrets_that_its_contracts_name(cluster: Cluster) -> None:
    cluster.apply("dm", outcomes=[contract()])
    assert_told(cluster, "dm", "ContainerConfig", "journal")
    cluster.kubectl("apply", "-f", "-", body=SECRET)
    assert_mended(cluster, "dm", "ContainerConfig")

"""One real API server for all tests of the operator, and a namespace for each."""

from collections.abc import Iterator

import pytest

from support.api_server import ApiServer
from support.api_servers import leaving_no_pods, serving
from support.gated_engine import Gates
from support.kubelet import Kubelet
from support.operators import CRD, Cluster


@pytest.fixture(scope="session")
def only_api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The API server of all files."""
    with serving(tmp_path_factory.mktemp("kubernetes")) as server:
        yield server


@pytest.fixture(scope="module")
def api_server(only_api_server: ApiServer) -> Iterator[ApiServer]:
    """The API server, whose pods go with the file that made them."""
    with leaving_no_pods(only_api_server) as server:
        yield server


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """A namespace of one test."""
    return api_server.namespace()


@pytest.fixture
def kubelet(api_server: ApiServer) -> Iterator[Kubelet]:
    """One node with eight GPUs that really runs its pods."""
    with Kubelet(api_server) as running:
        yield running


@pytest.fixture
def cluster(api_server: ApiServer, namespace: str) -> Iterator[Cluster]:
    """A namespace with the CRD and the shipped Role; a test starts its operators there."""
    api_server.install_crd(CRD)
    ours = Cluster(api_server, namespace)
    yield ours
    ours.close()


@pytest.fixture
def gated(cluster: Cluster, gates: Gates) -> Iterator[Kubelet]:
    """Such a node, whose workers load and speak as far as the test's gates are open."""
    with Kubelet(cluster.server, environ=gates.environ) as running:
        yield running

"""Fixtures of the scenarios: the cluster, the operator from the chart, a client inside, a namespace of one's own."""

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.clients import Client
from e2e.clusters import Body, Cluster, the_cluster
from e2e.dumping import dump
from e2e.operators import NAMESPACE as OPERATOR_NAMESPACE
from e2e.operators import Operator
from e2e.workers import Applied

Apply = Callable[[Body], Applied]
_failed = pytest.StashKey[bool]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return the_cluster()


@pytest.fixture(scope="session")
def _installed(cluster: Cluster) -> Operator:
    operator = Operator(cluster)
    operator.install()
    return operator


@pytest.fixture
def operator(_installed: Operator) -> Operator:
    """The operator as the chart installs it; a scenario that took it away finds it here again."""
    _installed.install()
    return _installed


@pytest.fixture(scope="session")
def client(cluster: Cluster) -> Client:
    found = Client(cluster)
    found.start()
    return found


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace that ends with the test; if the test failed, its state is written down first."""
    with _namespace(cluster, request, lambda: request.node.stash.get(_failed, False)) as name:
        yield name


@pytest.fixture(scope="module")
def room(cluster: Cluster, _installed: Operator, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace that the tests of a file share, where what they need takes long to start; the operator is there."""
    _installed.install()
    before = request.session.testsfailed
    with _namespace(cluster, request, lambda: request.session.testsfailed > before) as name:
        yield name


@contextlib.contextmanager
def _namespace(cluster: Cluster, request: pytest.FixtureRequest, has_failed: Callable[[], bool]) -> Iterator[str]:
    words = re.sub(r"[^a-z0-9]+", "-", Path(request.node.name).stem.removeprefix("test_").lower()).strip("-")
    # long names begin alike, and that of an earlier test, or of an earlier run, may still be ending
    name = f"e2e-{words}"[:42].strip("-") + f"-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    if has_failed():
        seen = dump(cluster, request.node.nodeid, [name, OPERATOR_NAMESPACE])
        if isinstance(request.node, pytest.Item):
            request.node.add_report_section("teardown", "state of the cluster", seen)
        print(seen)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def apply(cluster: Cluster, operator: Operator, namespace: str) -> Apply:
    """Apply an InferenceWorker in the test's namespace."""
    return lambda body: Applied(cluster, body, namespace)

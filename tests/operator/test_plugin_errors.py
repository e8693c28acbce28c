"""What `kubectl rhapsode` says when the way to the cluster is wrong: kubectl's own words, in one line."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.api_server import ApiServer
from support.api_servers import serving
from support.operators import Cluster
from support.plugins import Plugins
from support.processes import free_port

Config = Callable[[Path], None]


@pytest.fixture
def plugins(cluster: Cluster) -> Iterator[Plugins]:
    with Plugins(cluster) as running:
        yield running


def edited(path: Path, part: str, key: str, value: str) -> str:
    """Return a kubeconfig with another value in its first cluster, user or context."""
    config = json.loads(path.read_text())
    config[f"{part}s"][0][part][key] = value
    changed = path.with_suffix(f".{part}-{key}")
    changed.write_text(json.dumps(config))
    return str(changed)


@pytest.mark.parametrize("command", [["ask", "sim", "Hello?"], ["watch"], ["watch", "sim"], ["explain", "sim"]])
def test_a_server_that_cannot_be_reached_is_named(plugins: Plugins, command: list[str]) -> None:
    config = edited(plugins.config(), "cluster", "server", f"https://127.0.0.1:{free_port()}")
    status, out, err = plugins.run(*command, f"--kubeconfig={config}").done()
    assert (status, out) == (75, "")
    assert err.startswith("kubectl rhapsode: the API server: dial tcp 127.0.0.1:")
    assert err.count("\n") == 1


def test_kubectls_own_complaints_are_passed_on(plugins: Plugins, tmp_path: Path) -> None:
    said = {
        ("--context=other",): 'kubectl rhapsode: kubectl proxy: context "other" does not exist\n',
        (
            "--kubeconfig=/no/such/file",
        ): "kubectl rhapsode: kubectl proxy: stat /no/such/file: no such file or directory\n",
    }
    for flags, words in said.items():
        assert plugins.run("explain", "sim", *flags).done() == (1, "", words)


def test_credentials_that_are_wrong_are_told(plugins: Plugins) -> None:
    config = edited(plugins.config(), "user", "token", "nobody")
    assert "does not know who you are" in plugins.run("explain", "sim", f"--kubeconfig={config}").done()[2]


def test_without_kubectl_it_says_what_to_install(plugins: Plugins, tmp_path: Path) -> None:
    run = plugins.run("explain", "sim", PATH=str(tmp_path))
    assert run.done() == (
        1,
        "",
        "kubectl rhapsode: kubectl is not on PATH; see https://kubernetes.io/docs/tasks/tools\n",
    )


@pytest.fixture
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server where nobody has installed the CRD; the others' one would forget it for all who come after."""
    with serving(tmp_path_factory.mktemp("bare")) as server:
        yield server


def test_a_cluster_without_rhapsode_says_so(bare: ApiServer) -> None:
    with Plugins(Cluster(bare, bare.namespace())) as plugins:
        for command in (["explain", "sim"], ["watch"], ["ask", "sim", "Hello?"]):
            assert "is Rhapsode installed" in plugins.run(*command).done()[2]


def test_the_namespace_and_the_context_are_chosen_as_kubectl_does(plugins: Plugins, cluster: Cluster) -> None:
    cluster.apply()
    elsewhere = cluster.server.namespace()
    assert plugins.run("explain", "sim").done()[0] == 0
    status, out, err = plugins.run("explain", "sim", "-n", elsewhere).done()
    assert (status, out) == (1, "")
    assert f"no InferenceWorker sim in namespace {elsewhere}: there is none" in err
    status, out, _ = plugins.run("explain", "sim", "-n", cluster.namespace, "--context=tests").done()
    assert f"kubectl rhapsode watch sim --context=tests -n {cluster.namespace}\n" in out
    assert "no operator has looked at it yet" in out

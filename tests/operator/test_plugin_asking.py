"""`kubectl rhapsode ask`: the real kubectl and its proxy, a real API server, operator, relays and workers."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from support.kubelet import Kubelet
from support.operators import Cluster
from support.plugins import Plugins
from support.processes import DEADLINE_S, wait_until
from support.roles import grant

SLOW = {"load": [{"stage": "loading weights", "seconds": 2}], "tokensPerSecond": 40}
ASKER = """
kind: Role
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: asker}
rules:
- {apiGroups: [""], resources: [services/proxy], verbs: [get, create, delete]}
- {apiGroups: [rhapsode.dev], resources: [inferenceworkers], verbs: [get, list]}
"""


@pytest.fixture
def plugins(cluster: Cluster) -> Iterator[Plugins]:
    with Plugins(cluster) as running:
        yield running


def test_kubectl_finds_the_plugin(cluster: Cluster, plugins: Plugins) -> None:
    asked = plugins.run("--help")
    status, out, _ = asked.done()
    assert status == 0
    assert "examples:\n  kubectl rhapsode ask" in out
    for command in ("ask", "watch", "explain"):
        assert "examples:\n  kubectl rhapsode" in plugins.run(command, "--help").done()[1]
    listed = subprocess.run(
        ["kubectl", "plugin", "list"],
        env=asked.environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    ).stdout
    assert "/kubectl-rhapsode" in listed


def test_a_client_of_a_cold_start_is_told_and_gets_its_tokens(
    cluster: Cluster, kubelet: Kubelet, plugins: Plugins
) -> None:
    pull, worker_pull = (kubelet.image_pull_takes("sim-0", name) for name in ("relay", "worker"))
    cluster.operate()
    cluster.apply(options=SLOW)
    asked = plugins.run("ask", "sim", "Hello?", "--max-tokens", "6")
    asked.says("sim is Starting: ImagePulling: ")
    pull.release()
    asked.says("Accepted: 6 characters")
    worker_pull.release()
    status, out, err = asked.done()
    assert status == 0
    assert out
    for words in ("Accepted: 6 characters", "Loading: loading weights, ", "Ready after", "Done: 6 tokens"):
        assert words in err
    wait_until(asked.leaves_nothing, "no proxy with the user's credentials is left behind")


def test_a_connection_that_is_cut_loses_nothing(cluster: Cluster, kubelet: Kubelet, plugins: Plugins) -> None:
    cluster.operate()
    cluster.apply(options=SLOW)
    cluster.wait_ready()
    asked = plugins.run("ask", "sim", "Hello?", "--max-tokens", "400")
    for cuts in range(3):
        before = len(asked.out)
        wait_until(lambda before=before: plugins.proxy.streams and len(asked.out) > before + 20, "tokens come")  # type: ignore[misc]
        plugins.proxy.cut_streams()
        wait_until(lambda cuts=cuts: asked.err.count("connecting again") > cuts, "the cut is noticed")  # type: ignore[misc]
    status, out, err = asked.done()
    assert status == 0, err
    assert err.count("connecting again") >= 3
    assert len(out) > 120
    assert [method for method, _ in plugins.proxy.forwarded].count("POST") == 1, "the question was asked once"


def test_ctrl_c_cancels_the_request_and_ends_the_proxy(cluster: Cluster, kubelet: Kubelet, plugins: Plugins) -> None:
    cluster.operate()
    cluster.apply(options=SLOW)
    cluster.wait_ready()
    asked = plugins.run("ask", "sim", "Hello?", "--max-tokens", "2000")
    wait_until(lambda: asked.out, "tokens come")
    asked.process.send_signal(signal.SIGINT)
    assert asked.done()[0] == 130
    wait_until(lambda: '"event":"cancelled"' in kubelet.logs("sim-0"), "the worker heard of it")


def test_a_plugin_that_is_killed_leaves_no_proxy_with_the_users_credentials(
    cluster: Cluster, kubelet: Kubelet, plugins: Plugins
) -> None:
    cluster.operate()
    cluster.apply(options=SLOW)
    cluster.wait_ready()
    asked = plugins.run("ask", "sim", "Hello?", "--max-tokens", "2000")
    wait_until(lambda: asked.out, "tokens come")
    (folder,) = asked.folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700, "nobody else may use the user's credentials"
    assert len(asked.proxies()) == 2
    asked.process.kill()
    wait_until(asked.leaves_nothing, "nothing is left")


def test_a_proxy_that_is_killed_is_started_again(cluster: Cluster, kubelet: Kubelet, plugins: Plugins) -> None:
    cluster.operate()
    cluster.apply(options=SLOW)
    cluster.wait_ready()
    asked = plugins.run("ask", "sim", "Hello?", "--max-tokens", "400")
    wait_until(lambda: asked.out, "tokens come")
    os.kill(asked.kubectl_proxy(), signal.SIGKILL)
    status, _, err = asked.done()
    assert (status, "connecting again" in err) == (0, True), err


def test_who_cannot_be_asked_is_told_why(cluster: Cluster, kubelet: Kubelet, plugins: Plugins) -> None:
    cluster.operate()
    cluster.apply("solo", suspend=True)
    cluster.apply("duo", replicas=0)
    assert plugins.run("ask", "trio", "Hello?").done()[2] == (
        f"kubectl rhapsode: no InferenceWorker trio in namespace {cluster.namespace}: known here: duo, solo\n"
    )
    resume = """kubectl patch iw solo --type=merge -p '{"spec":{"suspend":false}}'"""
    assert plugins.run("ask", "solo", "Hello?").done()[2].endswith(f"is suspended: resume it with {resume}\n")
    assert "kubectl scale iw duo --replicas=1" in plugins.run("ask", "duo", "Hello?").done()[2]


def test_without_an_operator_it_says_so_and_gives_up_when_told_to(cluster: Cluster, plugins: Plugins) -> None:
    cluster.apply()
    status, _, err = plugins.run("ask", "sim", "Hello?", "--timeout", "2").done()
    assert status == 75
    assert "is rhapsode-operator running?" in err


def test_the_right_to_ask_is_services_proxy(cluster: Cluster, kubelet: Kubelet, plugins: Plugins) -> None:
    cluster.operate()
    cluster.apply(options=SLOW)
    cluster.wait_ready()
    token = grant(cluster.server, cluster.namespace, ASKER.replace("[get, create, delete]", "[get]"))
    status, _, err = plugins.run("ask", "sim", "Hello?", token=token).done()
    assert (status, "who may ask has get, create and delete on services/proxy" in err) == (1, True), err
    token = grant(cluster.server, cluster.namespace, ASKER)
    assert plugins.run("ask", "sim", "Hello?", "--max-tokens", "3", token=token).done()[0] == 0


def test_a_key_travels_beside_the_users_own_credentials(cluster: Cluster, kubelet: Kubelet, plugins: Plugins) -> None:
    secret = {"metadata": {"name": "keys"}, "stringData": {"ada": "sesame-open-12345"}}
    cluster.server.post(f"/api/v1/namespaces/{cluster.namespace}/secrets", secret)
    cluster.operate()
    cluster.apply(auth={"secretRef": {"name": "keys"}})
    cluster.wait_ready()
    status, _, err = plugins.run("ask", "sim", "Hello?", RHAPSODE_KEY="").done()
    assert (status, "RHAPSODE_KEY" in err) == (1, True), err
    status, out, err = plugins.run(
        "ask", "sim", "Hello?", "--max-tokens", "3", RHAPSODE_KEY="sesame-open-12345"
    ).done()
    assert status == 0, err
    assert out

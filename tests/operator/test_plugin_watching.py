"""`kubectl rhapsode watch`: one worker with its pods, or all workers, on a real API server."""

import signal
from collections.abc import Iterator
from itertools import pairwise

import pytest

from support.gated_engine import Gates
from support.kubelet import Kubelet
from support.operators import PATIENCE_S, Cluster
from support.plugins import Plugin, Plugins
from support.processes import wait_until
from support.roles import grant

LOAD = [{"stage": "fetching", "seconds": 0.7}, {"stage": "loading weights", "seconds": 1.0}]
LOOKER = """
kind: Role
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: looker}
rules:
- {apiGroups: [rhapsode.dev], resources: [inferenceworkers], verbs: [get, list, watch]}
"""


@pytest.fixture
def plugins(cluster: Cluster) -> Iterator[Plugins]:
    with Plugins(cluster) as running:
        yield running


def end(watch: Plugin) -> str:
    """End a watch as a person does; return what it said."""
    watch.process.send_signal(signal.SIGINT)
    status, out, err = watch.done()
    assert (status, err) == (130, "")
    return out


def test_one_worker_is_heard_with_its_pods_conditions_and_events(
    cluster: Cluster, kubelet: Kubelet, plugins: Plugins
) -> None:
    cluster.operate()
    pull = kubelet.image_pull_takes("sim-0", "worker")
    cluster.apply(options={"load": LOAD})
    watch = plugins.run("watch", "sim")
    watch.says("· Ready is False, ")
    wait_until(lambda: ("GET", "sim-0") in plugins.proxy.forwarded, "the pod is listened to", PATIENCE_S)
    pull.release()
    # the resource and the pod are followed on two connections: either may tell first
    for words in ("· Importing Simulator\n", "· Loading: loading weights, ", "· Ready after "):
        watch.says(words)
    said = watch.says("Ready is True, AllReplicasReady: 1 of 1 pod serving")
    assert "sim-0: Importing" not in said, "one pod needs no prefix"
    pull = kubelet.image_pull_takes("sim-1", "worker")
    cluster.kubectl("scale", "iw/sim", "--replicas=2")
    wait_until(lambda: ("GET", "sim-1") in plugins.proxy.forwarded, "the new pod is listened to", PATIENCE_S)
    pull.release()
    watch.says("sim-1: Ready after ")
    watch.says("Event Pull")
    watch.says("Ready is True, AllReplicasReady: 2 of 2 pods serving")
    cluster.kubectl("scale", "iw/sim", "--replicas=1")
    watch.says("· sim-1 is gone\n")
    said = end(watch)
    assert said.count("Ready is True, AllReplicasReady: 2 of 2 pods serving") == 1
    assert "Event AllReplicasReady" not in said, "a condition is told once"
    wait_until(watch.leaves_nothing, "nothing is left")


def test_a_watch_goes_on_when_a_pod_is_replaced_and_when_everything_is_cut(
    cluster: Cluster, kubelet: Kubelet, plugins: Plugins
) -> None:
    cluster.operate()
    cluster.apply(options={"load": LOAD})
    cluster.wait_ready()
    watch = plugins.run("watch", "sim")
    watch.says("Ready after ")
    plugins.proxy.cut_watches()
    plugins.proxy.cut_streams()
    watch.says("connecting again")
    cluster.delete_pod("sim-0")
    wait_until(lambda: watch.out.count("Ready after ") >= 2, "the new pod is heard", PATIENCE_S)
    cluster.delete()
    status, _, err = watch.done()
    assert (status, err) == (1, "kubectl rhapsode: sim was deleted\n")


def test_until_ready_ends_with_the_truth(cluster: Cluster, kubelet: Kubelet, plugins: Plugins) -> None:
    cluster.operate()
    cluster.apply("good", options={"load": LOAD})
    cluster.apply("bad", options={"tempo": "allegro"})
    good, bad = (plugins.run("watch", name, "--until-ready") for name in ("good", "bad"))
    assert good.done()[0] == 0
    status, out, _ = bad.done()
    assert status == 1
    assert "! Stalled is True, BadEngineOption: nothing will change until a person acts\n" in out
    every = plugins.run("watch", "--until-ready")
    assert every.done()[0] == 1
    cluster.apply("never", suspend=True)
    late = plugins.run("watch", "never", "--until-ready", "--timeout", "1")
    assert late.done() == (75, late.out, "kubectl rhapsode: never is not ready within 1 s\n")
    assert plugins.run("watch", "--timeout", "1").done()[0] == 0


def test_who_may_not_listen_to_pods_hears_the_operator(cluster: Cluster, kubelet: Kubelet, plugins: Plugins) -> None:
    cluster.operate()
    token = grant(cluster.server, cluster.namespace, LOOKER)
    cluster.apply()
    cluster.wait_ready()
    watch = plugins.run("watch", "sim", token=token)
    watch.says("who may listen to pods has get on pods/proxy")
    watch.says("no Events: ")
    cluster.kubectl("annotate", "iw/sim", "kubectl.kubernetes.io/restartedAt=2026-01-01T00:00:00Z")
    watch.says("Ready after ")
    end(watch)


def test_all_workers_are_a_line_per_change(cluster: Cluster, gates: Gates, gated: Kubelet, plugins: Plugins) -> None:
    gates.hold("loading weights")
    cluster.operate()
    watch = plugins.run("watch")
    everywhere = plugins.run("watch", "-A")
    watch.says(f"no InferenceWorker in {cluster.namespace} yet")
    cluster.apply("a", options={"load": LOAD})
    watch.says("loading weights")
    gates.release("loading weights")
    watch.says("1/1      Ready      loaded")
    plugins.proxy.cut_watches()
    cluster.apply("b", suspend=True)
    watch.says("0/0      Suspended")
    cluster.delete("a")
    watch.says("deleted")
    lines = end(watch).splitlines()
    assert lines[0].split() == ["NAME", "READY", "PHASE", "LOAD", "VRAM", "NARRATION"]
    shown = [line for line in lines if line.startswith(("a ", "b "))]
    assert all(one != other for one, other in pairwise(shown)), "a line is a change"
    everywhere.says(f"\n{cluster.namespace:<16}  b ")
    assert f"\n{cluster.namespace:<16}  b " in end(everywhere)


def test_a_watch_outlives_the_api_server(cluster: Cluster, kubelet: Kubelet, plugins: Plugins) -> None:
    cluster.operate()
    cluster.apply()
    cluster.wait_ready()
    watch = plugins.run("watch", straight=True)
    watch.says("Ready      loaded")
    cluster.server.restart()
    watch.says("connecting again")
    cluster.apply("late", suspend=True)
    watch.says("late ")
    end(watch)

"""A client that calls during a cold start is held, and told: by the operator too, of what only it can see."""

from support.kubelet import Kubelet
from support.operators import PATIENCE_S, Cluster, kill
from support.pod_calls import PodCall
from support.processes import wait_until

STEPS = [{"stage": "loading weights", "seconds": 0.5}]


def wait_relay(cluster: Cluster, pod: str = "sim-0") -> str:
    """Return the address of a pod whose relay is up."""

    def look() -> str:
        status = cluster.pods().get(pod, {}).get("status", {})
        started = any(one["started"] for one in status.get("initContainerStatuses") or ())
        return str(status["podIP"]) if started else ""

    return str(wait_until(look, f"the relay of {pod} is up", PATIENCE_S))


def test_who_calls_before_the_image_is_there_is_held_and_told_until_the_tokens_come(
    cluster: Cluster, kubelet: Kubelet
) -> None:
    pull = kubelet.image_pull_takes("sim-0", "worker")
    operator = cluster.operate()
    cluster.apply(options={"load": STEPS})
    with PodCall(wait_relay(cluster)) as call:
        call.wait("queued")
        assert call.wait_told("image_pull").data["human"].startswith("Pulling the worker's image rhapsode-worker-cpu")
        assert cluster.wait_condition("Ready", "ImagePulling")["status"] == "False"
        pull.release()
        told = call.finish()
    steps = ["image_pull", "load_stage", "ready", "first_token"]
    assert [action for action in dict.fromkeys(told) if action in steps] == steps
    assert operator.complaints() == []


def test_who_waits_for_an_image_that_cannot_be_pulled_hears_why_and_what_helps(
    cluster: Cluster, kubelet: Kubelet
) -> None:
    failing = kubelet.image_pull_fails("sim-0", "worker", message="pull access denied")
    cluster.operate()
    cluster.apply()
    with PodCall(wait_relay(cluster)) as call:
        human = call.wait_told("image_failed").data["human"]
        assert "pull access denied" in human
        assert "Check the image's name and tag" in human
        failing.release()
        call.finish()


def test_who_waits_hears_that_the_worker_ended_and_comes_again(cluster: Cluster, kubelet: Kubelet) -> None:
    kubelet.oom("sim-0", "worker")
    pull, restart = kubelet.image_pull_takes("sim-0", "worker"), kubelet.restart_takes("sim-0", "worker")
    cluster.operate()
    cluster.apply(options={"load": STEPS})
    with PodCall(wait_relay(cluster)) as call:
        call.wait_told("image_pull")
        pull.release()
        assert "OOMKilled" in call.wait_told("container_restart").data["human"]
        restart.release()
        call.finish()


def test_a_new_operator_tells_those_who_wait_already(cluster: Cluster, kubelet: Kubelet) -> None:
    pull = kubelet.image_pull_takes("sim-0", "worker")
    first = cluster.operate()
    cluster.apply()
    address = wait_relay(cluster)
    kill(first)
    with PodCall(address) as call:
        call.wait("queued")
        cluster.operate()
        call.wait_told("pod_scheduled")
        call.wait_told("image_pull")
        pull.release()
        call.finish()

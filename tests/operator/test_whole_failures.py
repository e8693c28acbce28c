"""What goes wrong in a pod, end to end: its reason, its remedy, one Warning where a person must act, and recovery."""

from collections.abc import Iterator

import pytest

from support.api_server import ApiServer
from support.kubelet import Kubelet
from support.operators import CRD, Cluster
from support.troubles import assert_mended, assert_told

STAGE = "loading weights"
STRANGER = {
    "metadata": {"name": "taken-0"},
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "i", "command": ["python", "-c", "import time; time.sleep(600)"]}],
    },
}


@pytest.fixture(scope="module")
def kubelet(api_server: ApiServer) -> Iterator[Kubelet]:
    with Kubelet(api_server) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(api_server: ApiServer, kubelet: Kubelet) -> Iterator[Cluster]:
    """An operator for all tests here. What takes long begins at once."""
    api_server.install_crd(CRD)
    ours = Cluster(api_server, api_server.namespace())
    ours.operate()
    ours.apply("crash", options=faulty(kind="exit", signal=11))
    ours.apply("stall", load={"stallSeconds": 30}, options=faulty(kind="stall"))
    api_server.post(f"/api/v1/namespaces/{ours.namespace}/pods", STRANGER)
    ours.apply("taken")
    yield ours
    ours.close()


def faulty(**fault: object) -> dict[str, object]:
    return {"load": [{"stage": STAGE, "seconds": 0.1}], "faults": [{"at": STAGE, **fault}]}


def test_an_image_that_cannot_be_pulled(cluster: Cluster, kubelet: Kubelet) -> None:
    failing = kubelet.image_pull_fails("image-*", "worker", message="pull access denied")
    cluster.apply("image")
    assert_told(cluster, "image", "ImagePull", "rhapsode-worker-cpu", "pull access denied")
    failing.release()
    assert_mended(cluster, "image", "ImagePull")


def test_a_container_out_of_memory(cluster: Cluster, kubelet: Kubelet) -> None:
    kubelet.oom("oom-0", "worker")
    restart = kubelet.restart_takes("oom-0", "worker")
    cluster.apply("oom")
    assert_told(cluster, "oom", "ContainerOOM", "worker of oom-0 used more memory than its limit")
    restart.release()
    assert_mended(cluster, "oom", "ContainerOOM")
    (replica,) = cluster.status("oom")["workers"]
    assert (replica["restarts"], replica["lastExit"]["reason"], replica["lastExit"]["code"]) == (1, "OOMKilled", 137)


def test_a_model_that_is_not_there(cluster: Cluster, kubelet: Kubelet) -> None:
    cluster.apply("model", engine={"name": "OpenVINO"}, model={"source": "file:///nowhere/model.gguf"})
    assert_told(cluster, "model", "ModelNotFound", "/nowhere/model.gguf does not exist")
    cluster.apply("model")
    assert_mended(cluster, "model", "ModelNotFound")


def test_an_option_that_the_engine_refuses(cluster: Cluster, kubelet: Kubelet) -> None:
    cluster.apply("option", options={"tempo": 3})
    assert_told(cluster, "option", "BadEngineOption", "tempo")
    cluster.apply("option")
    assert_mended(cluster, "option", "BadEngineOption")


def test_a_gpu_with_too_little_memory(cluster: Cluster, kubelet: Kubelet) -> None:
    cluster.apply("cuda", options=faulty(kind="oom", askedGiB=40, freeGiB=3.5))
    assert_told(cluster, "cuda", "CUDAOutOfMemory", "40 GiB asked", "3.5 GiB free")
    cluster.wait_status("cuda", "restarts", lambda status: status["workers"][0].get("restarts", 0) >= 2)
    assert cluster.condition("Ready", "cuda")["reason"] == "CUDAOutOfMemory", "a restart alone mends nothing"
    cluster.apply("cuda")
    assert_mended(cluster, "cuda", "CUDAOutOfMemory")


def test_an_engine_that_crashes_until_its_worker_gives_up(cluster: Cluster, kubelet: Kubelet) -> None:
    assert_told(cluster, "crash", "EngineCrash", "5 times", "SIGSEGV")
    cluster.apply("crash")
    assert_mended(cluster, "crash", "EngineCrash")


def test_a_load_that_makes_no_progress(cluster: Cluster, kubelet: Kubelet) -> None:
    assert_told(cluster, "stall", "LoadStalled", STAGE, "more than 30 s")
    cluster.apply("stall")
    assert_mended(cluster, "stall", "LoadStalled")


def test_a_pod_that_kubernetes_refuses(cluster: Cluster, kubelet: Kubelet) -> None:
    cluster.apply("spec", podTemplate={"spec": {"volumes": [{"name": "No Name"}]}})
    assert_told(cluster, "spec", "InvalidSpec", "No Name")
    cluster.apply("spec", podTemplate=None)
    assert_mended(cluster, "spec", "InvalidSpec")


def test_a_service_that_another_has(cluster: Cluster, kubelet: Kubelet) -> None:
    services = f"/api/v1/namespaces/{cluster.namespace}/services"
    cluster.server.post(services, {"metadata": {"name": "service"}, "spec": {"ports": [{"port": 80}]}})
    cluster.apply("service")
    assert_told(cluster, "service", "NameTaken", "Service service exists and is not ours")
    assert "ownerReferences" not in cluster.server.get(f"{services}/service")["metadata"]
    cluster.server.delete(f"{services}/service")
    assert_mended(cluster, "service", "NameTaken")


def test_a_pod_that_another_has_is_looked_at_again_although_nobody_tells_of_it(
    cluster: Cluster, kubelet: Kubelet
) -> None:
    assert_told(cluster, "taken", "NameTaken", "Pod taken-0 exists and is not ours: no InferenceWorker made it")
    cluster.delete_pod("taken-0")
    assert_mended(cluster, "taken", "NameTaken")


def test_all_that_was_told_without_a_complaint_of_the_operators_own(cluster: Cluster, kubelet: Kubelet) -> None:
    """What a user did wrong is the status's affair; the log warns of what was refused, and of nothing else."""
    (operator,) = cluster.operators
    refused = tuple(f"{cluster.namespace}/{name}: " for name in ("spec", "service", "taken"))
    assert [line for line in operator.complaints() if not line.startswith(refused)] == []
    assert operator.errors == []

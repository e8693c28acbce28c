"""VRAM in the status is what NVML measures, seen from inside a real pod that was given a GPU.

There is no GPU here: the node is said to have some, and a small library plays the driver. Everything else is real: the
scheduler, the unmodified nvidia-ml-py in the worker's image, the relay, the operator's telemetry.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from e2e.clusters import Body, Cluster, until
from e2e.conftest import Apply
from e2e.workers import worker

from support.fake_nvml import GIB, TOTAL, FakeNvml

MIB = 2**20


@pytest.fixture
def driver(cluster: Cluster, namespace: str, tmp_path: Path) -> Body:
    """A pod template with a driver of one GPU whose state is a file that may be written to."""
    nvml = FakeNvml(tmp_path, gpus=1)
    files = {"libnvidia-ml.so.1": nvml.library.read_bytes(), "state": nvml.path.read_bytes()}
    data = {name: base64.b64encode(content).decode() for name, content in files.items()}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "driver"}, "binaryData": data}
    cluster.apply(config, namespace)
    mounts = [{"name": "driver", "mountPath": "/driver"}, {"name": "gpu", "mountPath": "/gpu"}]
    copy = {
        "name": "gpu-state",
        "image": f"rhapsode-worker-cpu:{cluster.tag}",
        "command": ["cp", "/driver/state", "/gpu/state"],
        "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    env = [{"name": "LD_LIBRARY_PATH", "value": "/driver"}, {"name": "FAKE_NVML_STATE", "value": "/gpu/state"}]
    spec = {
        "initContainers": [copy],
        "containers": [{"name": "worker", "env": env, "volumeMounts": mounts}],
        "volumes": [{"name": "driver", "configMap": {"name": "driver"}}, {"name": "gpu", "emptyDir": {}}],
    }
    return {"spec": spec}


def _give_gpus(cluster: Cluster) -> None:
    """Let the node have GPUs, as a device plugin does."""
    gpus = {"nvidia.com/gpu": "2"}
    patch = json.dumps({"status": {"capacity": gpus, "allocatable": gpus}})
    cluster.kubectl("patch", "node", cluster.node, "--subresource=status", "--type=merge", "-p", patch)


def _use(cluster: Cluster, namespace: str, used: int) -> None:
    """Move the GPU's memory: `used` is the second number of its record, which begins after four of 32 bits."""
    code = f"f = open('/gpu/state', 'r+b'); f.seek(16 + 8); f.write(({used}).to_bytes(8, 'little')); f.close()"
    cluster.kubectl("exec", "-n", namespace, "gpu-0", "-c", "worker", "--", "python", "-c", code)


def test_measured_vram_reaches_status_and_columns(apply: Apply, cluster: Cluster, driver: Body) -> None:
    _give_gpus(cluster)
    gpu = apply(worker("gpu", gpus=1, podTemplate=driver))
    gpu.ready()

    def vram() -> Any:
        found = gpu.status().get("vram", {})
        return found if found.get("source") == "nvml" else None

    found = until(vram, "VRAM is measured")
    assert (found["usedMiB"], found["totalMiB"]) == (GIB // MIB, TOTAL // MIB)
    (one,) = found["gpus"]
    assert one["uuid"].startswith("GPU-")
    assert one["name"]
    assert "GiB" in cluster.kubectl("get", "iw", "gpu", "-n", gpu.namespace)
    limits = cluster.get("pod", "gpu-0", gpu.namespace)["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    _use(cluster, gpu.namespace, TOTAL * 98 // 100)
    until(lambda: gpu.condition("VRAMPressure").get("status") == "True", "there is pressure")
    until(lambda: vram() and vram()["usedMiB"] > 70_000, "the status tells how much is used", 90)

"""The stand-in for scheduler and kubelet behaves as they do: else what it says of the operator would be worth nothing."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from rhapsode_contract import names
from support.api_server import ApiServer, ControllerManager
from support.kubelet import Kubelet
from support.operators import PATIENCE_S
from support.pod_statuses import GPU
from support.processes import DEADLINE_S, manifest, wait_until

JSON = dict[str, Any]
MOUNTS = [
    {"name": "manifest", "mountPath": "/etc/rhapsode"},
    {"name": "socket", "mountPath": "/run/rhapsode"},
    {"name": "cache", "mountPath": "/var/cache/rhapsode"},
]
ENVIRON = [
    {"name": names.ENV_MANIFEST, "value": "/etc/rhapsode/manifest.json"},
    {"name": names.ENV_SOCKET, "value": "/run/rhapsode/worker.sock"},
    {"name": names.ENV_CACHE, "value": "/var/cache/rhapsode"},
    {"name": names.ENV_HOST, "value": "0.0.0.0"},
    {"name": names.ENV_WORKER_ID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
]


def pod(name: str = "sim-0", gpus: int = 0, **worker: Any) -> JSON:
    """Return the pod of one worker, written by hand."""
    relay = {
        "name": "relay",
        "image": "relay:test",
        "restartPolicy": "Always",
        "command": ["python", "-m", "rhapsode_relay"],
        "env": ENVIRON,
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9101}],
        "startupProbe": {"httpGet": {"path": "/healthz", "port": "admin"}, "failureThreshold": 600},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}},
        "volumeMounts": MOUNTS,
    }
    played = {
        "name": "worker",
        "image": "worker:test",
        "command": ["python", "-m", "rhapsode_worker"],
        "env": ENVIRON,
        "startupProbe": {"httpGet": {"path": "/healthz/worker", "port": 9101}, "failureThreshold": 6000},
        "livenessProbe": {"httpGet": {"path": "/healthz/worker", "port": 9101}},
        "lifecycle": {"preStop": {"httpGet": {"path": "/prestop", "port": 9101}}},
        "resources": {"limits": {GPU: str(gpus)}} if gpus else {},
        "volumeMounts": MOUNTS,
    }
    served = manifest(engine={"options": {"load": [], "tokensPerSecond": 200}})
    field = {"fieldPath": "metadata.annotations['rhapsode.dev/manifest']"}
    return {
        "metadata": {"name": name, "annotations": {"rhapsode.dev/manifest": json.dumps(served)}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 20,
            "initContainers": [relay],
            "containers": [played | worker],
            "volumes": [
                {"name": "manifest", "downwardAPI": {"items": [{"path": "manifest.json", "fieldRef": field}]}},
                {"name": "socket", "emptyDir": {}},
                {"name": "cache", "emptyDir": {}},
            ],
        },
    }


class Pods:
    """The pods of one test."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self._server, self._path = server, f"/api/v1/namespaces/{namespace}/pods"

    def create(self, body: JSON) -> str:
        return str(self._server.post(self._path, body)["metadata"]["name"])

    def delete(self, name: str = "sim-0") -> None:
        self._server.delete(f"{self._path}/{name}")

    def get(self, name: str = "sim-0") -> JSON | None:
        return self._server.admin.find(f"{self._path}/{name}")

    def wait(self, name: str, what: str, holds: Callable[[JSON], Any]) -> JSON:
        """Return the status once something holds for it."""

        def look() -> JSON | None:
            status: JSON = (self.get(name) or {}).get("status", {})
            return status if holds(status) else None

        found: JSON = wait_until(look, f"{name} {what}: {json.dumps(self.get(name))}", PATIENCE_S)
        return found

    def ready(self, name: str = "sim-0") -> JSON:
        return self.wait(name, "is Ready", lambda status: condition(status, "Ready").get("status") == "True")

    def gone(self, name: str = "sim-0") -> None:
        wait_until(lambda: self.get(name) is None, f"{name} is gone", PATIENCE_S)


@pytest.fixture
def pods(api_server: ApiServer, namespace: str) -> Pods:
    return Pods(api_server, namespace)


def condition(status: JSON, kind: str) -> JSON:
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})


def worker_of(status: JSON) -> JSON:
    found: JSON = next(iter(status.get("containerStatuses") or []), {})
    return found


def ask(status: JSON) -> str:
    """Return the stream of an answer."""
    body, headers = {"prompt": "hello", "max_tokens": 5}, {"Accept": "text/event-stream"}
    return httpx.post(
        f"http://{status['podIP']}:8080/v1/inference", json=body, headers=headers, timeout=DEADLINE_S
    ).text


def test_a_pod_is_up_sidecar_first_and_answers_at_its_own_address(kubelet: Kubelet, pods: Pods) -> None:
    pull = kubelet.image_pull_takes("sim-0", "worker")
    pods.create(pod(gpus=2))
    status = pods.wait(
        "sim-0", "runs its relay", lambda status: condition(status, "Initialized").get("status") == "True"
    )
    assert status["phase"] == "Pending"
    assert worker_of(status)["state"]["waiting"]["reason"] == "PodInitializing"
    assert httpx.get(f"http://{status['podIP']}:9101/readyz").status_code == 503
    pull.release()
    status = pods.ready()
    assert status["phase"] == "Running"
    assert "event: done" in ask(status), kubelet.logs("sim-0")


def test_a_pod_is_deleted_in_order_worker_first(kubelet: Kubelet, pods: Pods) -> None:
    for name in ("sim-0", "sim-1"):
        pods.create(pod(name))
    addresses = {pods.ready(name)["podIP"] for name in ("sim-0", "sim-1")}
    assert len(addresses) == 2
    relay, worker = (kubelet.processes("sim-0", name)[0] for name in ("relay", "worker"))
    kubelet.freeze("sim-0", "worker")
    pods.delete()
    status = pods.wait("sim-0", "is told to end", lambda _: (pods.get() or {})["metadata"].get("deletionTimestamp"))
    assert status["initContainerStatuses"][0]["state"].get("running")
    pods.wait("sim-0", "is drained", lambda status: condition(status, "Ready")["status"] == "False")
    assert httpx.get(f"http://{status['podIP']}:9101/readyz").json() == {"status": "draining"}
    assert relay.is_running()
    kubelet.thaw("sim-0", "worker")
    pods.gone()
    assert "relay_start" in kubelet.logs("sim-0")
    assert not worker.is_running()
    assert not relay.is_running()
    assert pods.ready("sim-1")


def test_a_container_out_of_memory_is_said_to_be_and_comes_back(kubelet: Kubelet, pods: Pods) -> None:
    pods.create(pod())
    pods.ready()
    kubelet.oom("sim-0", "worker")
    status = pods.wait("sim-0", "restarted", lambda status: worker_of(status)["restartCount"] == 1)
    ended = worker_of(status)["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    assert status["initContainerStatuses"][0]["restartCount"] == 0
    pods.ready()


def test_a_worker_that_cannot_work_crash_loops_with_its_last_words(kubelet: Kubelet, pods: Pods) -> None:
    words = [{"name": "RHAPSODE_TERMINATION_LOG", "value": "/dev/termination-log"}]
    script = (
        "import os; open(os.environ['RHAPSODE_TERMINATION_LOG'], 'w').write('no such model'); raise SystemExit(78)"
    )
    pods.create(pod(command=["python", "-c", script], env=words))
    waiting = "CrashLoopBackOff"
    status = pods.wait(
        "sim-0",
        "crash-loops",
        lambda status: worker_of(status).get("state", {}).get("waiting", {}).get("reason") == waiting,
    )
    ended = worker_of(status)["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"], ended["message"]) == ("Error", 78, "no such model")
    assert status["phase"] == "Running"
    assert condition(status, "Ready")["status"] == "False"


def test_a_pod_that_fits_nowhere_says_what_is_missing_until_something_is_free(kubelet: Kubelet, pods: Pods) -> None:
    pods.create(pod("sim-0", gpus=5))
    pods.ready("sim-0")
    pods.create(pod("sim-1", gpus=4))
    status = pods.wait("sim-1", "waits", lambda status: condition(status, "PodScheduled"))
    assert condition(status, "PodScheduled")["reason"] == "Unschedulable"
    assert condition(status, "PodScheduled")["message"] == "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    pods.delete("sim-0")
    pods.ready("sim-1")


def test_an_image_that_cannot_be_pulled_is_tried_again(kubelet: Kubelet, pods: Pods) -> None:
    failing = kubelet.image_pull_fails("sim-*", "worker", message="pull access denied")
    pods.create(pod())
    status = pods.wait(
        "sim-0",
        "backs off",
        lambda status: worker_of(status).get("state", {}).get("waiting", {}).get("reason") == "ImagePullBackOff",
    )
    assert "pull access denied" in worker_of(status)["state"]["waiting"]["message"]
    failing.release()
    assert worker_of(pods.ready())["restartCount"] == 0


def test_an_evicted_and_a_rejected_pod_are_failed(kubelet: Kubelet, pods: Pods) -> None:
    kubelet.reject("sim-1")
    for name in ("sim-0", "sim-1"):
        pods.create(pod(name))
    pods.ready("sim-0")
    kubelet.evict("sim-0")
    for name, reason in (("sim-0", "Evicted"), ("sim-1", "UnexpectedAdmissionError")):
        status = pods.wait(name, "failed", lambda status: status.get("phase") == "Failed")
        assert status["reason"] == reason
        pods.delete(name)
        pods.gone(name)


def test_a_lost_node_keeps_its_pods_until_it_is_deleted(api_server: ApiServer, pods: Pods) -> None:
    with Kubelet(api_server, nodes={"gone": 1}) as kubelet:
        pods.create(pod())
        pods.ready()
        running = kubelet.processes("sim-0", "worker")
        kubelet.node_gone("gone")
        assert not any(process.is_running() for process in running[:1])
        pods.wait("sim-0", "is unready", lambda status: condition(status, "Ready")["status"] == "False")
        pods.delete()
        assert (pods.get() or {})["metadata"]["deletionTimestamp"]
        kubelet.node_deleted("gone")
        pods.gone()


def test_a_restart_of_the_api_server_is_survived(kubelet: Kubelet, api_server: ApiServer, pods: Pods) -> None:
    pods.create(pod())
    before = pods.ready()
    api_server.kill()
    kubelet.kill("sim-0", "worker")
    assert httpx.get(f"http://{before['podIP']}:9101/healthz").status_code == 200
    api_server.start()
    pods.wait("sim-0", "restarted", lambda status: worker_of(status)["restartCount"] == 1)
    pods.ready()
    pods.create(pod("sim-1"))
    pods.ready("sim-1")


def test_hollow_pods_are_ready_and_gone_without_a_process(api_server: ApiServer, pods: Pods) -> None:
    with Kubelet(api_server, hollow_s=0.05) as kubelet:
        for number in range(20):
            pods.create(pod(f"sim-{number}"))
        for number in range(20):
            assert pods.ready(f"sim-{number}")["phase"] == "Running"
        assert kubelet.logs("*") == ""
        pods.delete("sim-7")
        pods.gone("sim-7")


def test_what_a_deleted_owner_leaves_behind_is_collected(
    kubelet: Kubelet, api_server: ApiServer, namespace: str
) -> None:
    owners, pods = f"/api/v1/namespaces/{namespace}/configmaps", Pods(api_server, namespace)
    owner = api_server.post(owners, {"metadata": {"name": "owner"}})
    body = pod()
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    body["metadata"]["ownerReferences"] = [reference]
    pods.create(body)
    with ControllerManager(api_server):
        api_server.delete(f"{owners}/owner")
        pods.gone()

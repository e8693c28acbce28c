"""`kubectl rhapsode` through the API server's own proxies, with a kubeconfig and no ingress."""

import os
import subprocess

from e2e.clusters import Cluster
from e2e.conftest import Apply
from e2e.plugins import PATH, run
from e2e.workers import worker


def test_a_question_is_held_told_and_answered_while_the_worker_starts(apply: Apply, namespace: str) -> None:
    apply(worker("sim", options={"load": [{"stage": "loading weights", "seconds": 5}]}))
    done = run("ask", "sim", "-n", namespace, "--max-tokens", "20", "Sing of anger")
    assert done.returncode == 0, done.stderr
    assert "Ready after" in done.stderr
    assert len(done.stdout.strip()) > 20


def test_an_answer_goes_on_when_its_pod_is_deleted_under_it(apply: Apply, cluster: Cluster, namespace: str) -> None:
    apply(worker("sim", replicas=2)).ready(replicas=2)
    command = ["kubectl", "rhapsode", "ask", "sim", "-n", namespace, "--max-tokens", "600", "Sing of anger"]
    with subprocess.Popen(
        command, env=os.environ | PATH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.read(1)
            busy = [pod for pod in ("sim-0", "sim-1") if _running(cluster, pod, namespace)]
            assert len(busy) == 1
            cluster.delete("pod", busy[0], namespace, wait=False)
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert "Done: 600 tokens" in err
    assert len(first + out) > 600


def _running(cluster: Cluster, pod: str, namespace: str) -> bool:
    found = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/v1/worker")
    return '"running":1' in found


def test_watch_ends_when_the_worker_is_ready_and_tells_the_way_there(apply: Apply, namespace: str) -> None:
    apply(worker("sim", options={"load": [{"stage": "loading weights", "seconds": 4}]}))
    done = run("watch", "sim", "-n", namespace, "--until-ready", "--timeout", "90")
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    assert "Ready is True, AllReplicasReady" in told
    assert "oading weights" in told


def test_explain_names_the_remedy(apply: Apply, namespace: str) -> None:
    apply(worker("typo", options={"tempo": "allegro"})).reason("BadEngineOption", "Stalled")
    told = run("explain", "typo", "-n", namespace).stdout
    assert "BadEngineOption" in told
    assert "Correct spec.engine.options" in told
    assert "typo-0" in told


def test_a_key_opens_a_locked_worker_through_the_api_server(apply: Apply, cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "secret", "generic", "keys", "-n", namespace, "--from-literal=alice=open-sesame")
    apply(worker("locked", auth={"secretRef": {"name": "keys"}})).ready()
    refused = run("ask", "locked", "-n", namespace, "Sing")
    assert refused.returncode != 0
    assert "RHAPSODE_KEY" in refused.stderr
    opened = run(
        "ask", "locked", "-n", namespace, "--max-tokens", "5", "Sing", environ={"RHAPSODE_KEY": "open-sesame"}
    )
    assert opened.returncode == 0, opened.stderr

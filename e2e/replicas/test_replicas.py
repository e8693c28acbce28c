"""Several replicas behind one Service are one worker: whichever a client meets, it gets its stream."""

import json
import subprocess
from typing import Any

from e2e.clients import NAMESPACE, Client
from e2e.clusters import Cluster, until
from e2e.conftest import Apply
from e2e.workers import Applied, worker


def _curl(pod: str, path: str, applied: Applied, method: str = "GET", last_id: str = "") -> tuple[int, str]:
    """Return status and body of a request to one pod, by its own name."""
    code = (
        "import http.client, sys; c = http.client.HTTPConnection(sys.argv[1], 8080, timeout=60);"
        " c.request(sys.argv[2], sys.argv[3], headers={'Last-Event-ID': sys.argv[4]} if sys.argv[4] else {});"
        " r = c.getresponse(); print(r.status); sys.stdout.write(r.read().decode())"
    )
    host = f"{pod}.{applied.name}-pods.{applied.namespace}.svc.cluster.local."
    command = ["kubectl", "exec", "-n", NAMESPACE, "client", "--", "python", "-c", code, host, method, path, last_id]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    status, _, body = done.stdout.partition("\n")
    return int(status), body


def _events(body: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]


def _owner(job: str) -> str:
    return job.rpartition("-")[0]


def test_a_job_is_read_and_cancelled_through_the_replica_that_does_not_own_it(apply: Apply, client: Client) -> None:
    pair = apply(worker("pair", replicas=2))
    pair.ready(replicas=2)
    result = client.ask("pair", pair.namespace, "--tokens", "20")
    owner = _owner(result["job"])
    other = {"pair-0": "pair-1", "pair-1": "pair-0"}[owner]
    path = f"/v1/inference/{result['job']}"
    assert _curl(other, f"{path}/stream", pair) == _curl(owner, f"{path}/stream", pair)
    status, body = _curl(other, path, pair)
    assert (status, json.loads(body)["text"]) == (200, result["text"])
    with client.asking("pair", pair.namespace, "--tokens", "3000") as asking:
        first = asking.until(lambda told: [one for one in told if one["what"] == "first_token"], "it streams")[0]
        elsewhere = "pair-1" if _owner(first["job"]) == "pair-0" else "pair-0"
        assert _curl(elsewhere, f"/v1/inference/{first['job']}", pair, "DELETE")[0] == 200
        assert asking.result()["error"]["code"] == "cancelled"


def test_a_correlation_id_joins_the_jobs_of_all_replicas(apply: Apply, client: Client) -> None:
    pair = apply(worker("pair", replicas=2))
    pair.ready(replicas=2)
    jobs: set[str] = set()
    for _ in range(30):  # kube-proxy chooses a pod at random for each
        if len({_owner(job) for job in jobs}) == 2:
            break
        jobs.add(client.ask("pair", pair.namespace, "--correlation", "turn")["job"])
    heard: set[str] = set()
    for pod in ("pair-0", "pair-1"):
        body = _until_ends(pod, "/v1/correlations/turn-0/stream", pair, len(jobs))
        ended = {event["job_id"] for event in _events(body) if event["type"] == "end"}
        assert ended == jobs
        heard |= ended
    assert heard == jobs


def _until_ends(pod: str, path: str, applied: Applied, ends: int) -> str:
    """Return what an endless stream says until so many jobs have ended, and a heartbeat comes after them."""
    code = (
        "import sys, http.client; c = http.client.HTTPConnection(sys.argv[1], 8080, timeout=60);"
        " c.request('GET', sys.argv[2]); r = c.getresponse(); left = int(sys.argv[3])\n"
        "while (line := r.readline().decode()) and not (left <= 0 and line.startswith(':')):\n"
        "    sys.stdout.write(line); left -= line.startswith('event: end')\n"
    )
    host = f"{pod}.{applied.name}-pods.{applied.namespace}.svc.cluster.local."
    command = ["kubectl", "exec", "-n", NAMESPACE, "client", "--", "python", "-c", code, host, path, str(ends)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_meets_a_loading_replica_is_handed_to_the_one_that_is_ready(
    apply: Apply, client: Client, cluster: Cluster
) -> None:
    pair = apply(worker("pair", replicas=2, options={"load": [{"stage": "loading weights", "seconds": 25}]}))
    pair.ready(replicas=2)
    cluster.kill("pair-1", "worker", pair.namespace)
    until(lambda: not _is_ready(cluster, pair), "pair-1 loads again")
    with client.asking("pair-1.pair-pods", pair.namespace, "--tokens", "10") as asking:
        result = asking.result()
    assert (result["how"], result["whole"], _owner(result["job"])) == ("end", True, "pair-0")


def _is_ready(cluster: Cluster, applied: Applied) -> bool:
    (one,) = cluster.get("pod", "pair-1", applied.namespace)["status"]["containerStatuses"]
    return bool(one["ready"])

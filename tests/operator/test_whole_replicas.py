"""Two pods of one resource: a client that comes back to the other one loses nothing."""

import hashlib
from typing import Any

import httpx

from rhapsode_contract import names
from support.kubelet import Kubelet
from support.kubelet_loop import promise_address
from support.operators import Cluster
from support.pod_calls import PodCall
from support.processes import DEADLINE_S, wait_until
from support.streams import Stream, text_of

JSON = dict[str, Any]


def listed(namespace: str, *pods: str) -> JSON:
    """Return a template with a list of the pods: nobody here answers for the headless Service's names."""
    peers = ",".join(f"{pod}={promise_address(namespace, pod)}:{names.DEFAULT_PORT}" for pod in pods)
    env = [{"name": names.ENV_PEERS, "value": peers}]
    return {"spec": {"initContainers": [{"name": "relay", "env": env}]}}


def come_back(host: str, job: str, last: str) -> Stream:
    """Come back to a job; again as long as the relay says that its owner cannot be reached now."""

    def look() -> Stream | None:
        path, headers = f"/v1/inference/{job}/stream", {"Last-Event-ID": last}
        stream = Stream(names.DEFAULT_PORT, path, host=host, headers=headers)
        if stream.status != 503:
            return stream
        stream.close()
        return None

    found: Stream = wait_until(look, f"{job} is found", pause_s=0.5)
    return found


def send(method: str, url: str) -> JSON:
    """Ask about a job; again as long as the relay says that its owner cannot be reached now."""

    def answered() -> httpx.Response | None:
        answer = httpx.request(method, url, timeout=DEADLINE_S)
        return answer if answer.status_code != 503 else None

    found: JSON = wait_until(answered, f"{url} is answered", pause_s=0.5).json()
    return found


def test_a_stream_goes_on_at_the_other_pod_and_is_cancelled_there(cluster: Cluster) -> None:
    with Kubelet(cluster.server) as kubelet:
        cluster.operate()
        cluster.apply(podTemplate=listed(cluster.namespace, "sim-0", "sim-1"), options={"tokensPerSecond": 100})
        cluster.wait_ready()
        cluster.patch("sim", {"replicas": 2})
        cluster.wait_status("sim", "has two pods", lambda status: status.get("readyReplicas") == 2)
        here, there = kubelet.address("sim-0"), kubelet.address("sim-1")
        with PodCall(here, 200) as call:
            call.wait("token")
        last = call.events[-1]
        job = last.data["job_id"]
        with come_back(there, job, last.id) as again:
            events = [*call.events, *again.rest()]
        assert again.headers.get("x-replay") == "replay", again.raw[:500]
        end = next(event for event in events if event.name == "end")
        assert job.startswith("sim-0-")
        assert hashlib.sha256(text_of(events).encode()).hexdigest() == end.data["text_sha256"]
        with PodCall(here, 100_000) as endless:
            job = endless.wait("token").data["job_id"]
            url = f"http://{there}:{names.DEFAULT_PORT}/v1/inference/{job}"
            assert send("DELETE", url)["status"] == "cancelled"
            wait_until(lambda: send("GET", url)["status"] == "cancelled", "both know it")

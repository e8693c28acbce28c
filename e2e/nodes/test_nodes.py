"""A node that is drained lets streams finish, and its workers come back when there is room."""

import subprocess

from e2e.clients import Client
from e2e.clusters import Cluster
from e2e.conftest import Apply
from e2e.workers import worker


def test_a_drained_node_lets_the_stream_finish_and_the_worker_returns(
    apply: Apply, client: Client, cluster: Cluster
) -> None:
    guest = apply(worker("guest"))
    guest.ready()
    drain = ["kubectl", "drain", cluster.node, "--pod-selector=rhapsode.dev/worker=guest", "--delete-emptydir-data"]
    try:
        with client.asking("guest", guest.namespace, "--tokens", "600") as asking:
            asking.until(lambda told: any(one["what"] == "first_token" for one in told), "it streams")
            done = subprocess.run(
                [*drain, "--timeout=120s"], capture_output=True, text=True, timeout=150, check=False
            )
            result = asking.result()
        assert done.returncode == 0, done.stderr
        assert (result["how"], result["whole"], result["tokens"], result["cuts"]) == ("end", True, 600, 0)
        assert "unschedulable" in guest.reason("Unschedulable")["message"]
    finally:
        cluster.kubectl("uncordon", cluster.node)
    guest.ready()
    assert client.ask("guest", guest.namespace)["whole"]

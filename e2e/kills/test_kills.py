"""Processes of a pod are killed while it streams."""

from e2e.clients import Client
from e2e.clusters import Cluster, until
from e2e.conftest import Apply
from e2e.workers import worker


def test_a_killed_worker_ends_its_streams_with_a_retryable_error_and_comes_back(
    apply: Apply, client: Client, cluster: Cluster
) -> None:
    frail = apply(worker("frail"))
    frail.ready()
    with client.asking("frail", frail.namespace, "--tokens", "2000") as asking:
        asking.until(lambda told: any(one["what"] == "first_token" for one in told), "it streams")
        cluster.kill("frail-0", "worker", frail.namespace)
        result = asking.result()
    assert (result["how"], result["retryable"], result["error"]["code"]) == ("error", True, "worker_lost")
    assert result["error"]["partial"]

    def told() -> bool:
        (one,) = frail.status().get("workers", [{}])
        return one.get("restarts") == 1 and one.get("ready") is True

    until(told, "the status tells of the restart")
    (one,) = frail.status()["workers"]
    assert (one["lastExit"]["code"], one["lastExit"]["reason"]) == (137, "Error")
    assert client.ask("frail", frail.namespace)["whole"]


def test_a_client_resumes_when_the_relay_was_killed(apply: Apply, client: Client, cluster: Cluster) -> None:
    frail = apply(worker("frail"))
    frail.ready()
    with client.asking("frail", frail.namespace, "--streams", "3", "--tokens", "600") as asking:
        asking.until(lambda told: sum(one["what"] == "first_token" for one in told) == 3, "all stream")
        cluster.kill("frail-0", "relay", frail.namespace)
        results = asking.results(3)
    assert [(one["how"], one["whole"], one["tokens"]) for one in results] == [("end", True, 600)] * 3
    assert all(one["cuts"] >= 1 for one in results)
    assert not [line for line in asking.lines if line["what"] in ("torn", "gap")]
    frail.ready()

"""With keys in a Secret, a worker answers who shows one, and nobody else."""

from e2e.clients import Client
from e2e.clusters import Cluster, until
from e2e.conftest import Apply
from e2e.workers import worker


def test_without_the_key_401_and_with_it_a_stream(
    apply: Apply, client: Client, cluster: Cluster, namespace: str
) -> None:
    cluster.kubectl("create", "secret", "generic", "keys", "-n", namespace, "--from-literal=alice=open-sesame")
    locked = apply(worker("locked", auth={"secretRef": {"name": "keys"}}))
    locked.ready()
    for options in ([], ["--key", "open-barley"]):
        refused = client.ask("locked", namespace, *options)
        assert (refused["how"], refused["status"]) == ("refused", 401)
    assert client.ask("locked", namespace, "--key", "open-sesame")["whole"]
    cluster.kubectl("patch", "secret", "keys", "-n", namespace, "-p", '{"stringData": {"bob": "second-key"}}')
    until(lambda: client.ask("locked", namespace, "--key", "second-key")["how"] == "end", "the new key opens", 150)
    assert cluster.get("pod", "locked-0", namespace)["status"]["containerStatuses"][0]["restartCount"] == 0

"""`kubectl scale` is obeyed, up and down, and what is asked meanwhile is answered."""

from e2e.clients import Client
from e2e.clusters import Cluster, until
from e2e.conftest import Apply
from e2e.workers import worker


def test_scaling_up_and_down_loses_no_stream(apply: Apply, client: Client, cluster: Cluster) -> None:
    choir = apply(worker("choir"))
    choir.ready(replicas=1)
    with client.asking("choir", choir.namespace, "--streams", "6", "--tokens", "800") as asking:
        asking.until(lambda lines: sum(one["what"] == "first_token" for one in lines) == 6, "all six stream")
        cluster.kubectl("scale", "iw", "choir", "-n", choir.namespace, "--replicas=3")
        choir.ready(replicas=3)
        cluster.kubectl("scale", "iw", "choir", "-n", choir.namespace, "--replicas=1")
        choir.ready(replicas=1)
        results = asking.results(6)
    assert all((one["how"], one["whole"], one["tokens"], one["cuts"]) == ("end", True, 800, 0) for one in results)
    until(lambda: [pod["metadata"]["name"] for pod in choir.pods()] == ["choir-0"], "one pod is left")


def test_suspending_takes_the_pods_and_resuming_brings_them_back(apply: Apply, client: Client) -> None:
    sleeper = apply(worker("sleeper"))
    sleeper.ready()
    sleeper.patch({"suspend": True})
    until(lambda: not sleeper.pods(), "no pod is left")
    assert sleeper.reason("Suspended")["status"] == "False"
    sleeper.patch({"suspend": False})
    sleeper.ready()
    assert client.ask("sleeper", sleeper.namespace)["whole"]

"""Without an operator everything serves on, and `kubectl delete` returns at once and leaves nothing."""

from e2e.clients import Client
from e2e.clusters import Cluster, until
from e2e.conftest import Apply
from e2e.operators import Operator
from e2e.workers import worker


def test_after_the_operator_is_uninstalled_workers_serve_and_can_be_deleted(
    apply: Apply, client: Client, cluster: Cluster, operator: Operator
) -> None:
    orphan = apply(worker("orphan", replicas=2))
    orphan.ready(replicas=2)
    operator.uninstall()
    assert client.ask("orphan", orphan.namespace)["whole"]
    assert cluster.get("crd", "inferenceworkers.rhapsode.dev", "default")
    orphan.delete()
    assert not orphan.now()

    def left() -> list[str]:
        kinds = "pods,services,poddisruptionbudgets,persistentvolumeclaims"
        selector = "rhapsode.dev/worker=orphan"
        return cluster.kubectl("get", kinds, "-n", orphan.namespace, "-l", selector, "-o", "name").split()

    until(lambda: not left(), "nothing is left", 90)

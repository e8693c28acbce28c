"""An operator that may watch one namespace serves that one, with no right in any other."""

import subprocess

from e2e.clusters import Cluster
from e2e.conftest import Apply
from e2e.operators import NAMESPACE, Operator
from e2e.workers import Applied, worker


def test_only_the_watched_namespace_is_served(
    apply: Apply, cluster: Cluster, operator: Operator, namespace: str
) -> None:
    other = f"{namespace}-other"[:60]
    cluster.kubectl("create", "namespace", other)
    try:
        operator.install(f"watchNamespaces={{{namespace}}}")
        apart = Applied(cluster, worker("apart"), other)
        Applied(cluster, worker("served"), namespace).ready()  # it came later, and is served already
        assert "status" not in apart.now()
        assert not apart.pods()
        assert _may(cluster, namespace) == "yes"
        assert _may(cluster, other) == "no"
    finally:
        cluster.kubectl("delete", "namespace", other, "--wait=false")


def _may(cluster: Cluster, namespace: str) -> str:
    """Return whether the operator may make pods there. kubectl's exit status says the same."""
    account = f"system:serviceaccount:{NAMESPACE}:rhapsode-operator"
    command = ["kubectl", "auth", "can-i", "create", "pods", "-n", namespace, "--as", account]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    return done.stdout.strip()

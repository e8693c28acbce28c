"""The rights that the chart grants: enough for a real operator, nothing elsewhere, and what people get."""

import json

import pytest

from support.api_server import ControllerManager
from support.operators import worker
from support.processes import wait_until
from support.releases import Release

WORKER_KIND = "rhapsode.dev/inferenceworkers"


@pytest.mark.parametrize("restricted", [False, True], ids=["cluster", "namespaces"])
def test_the_operator_can_do_its_work_under_them(release: Release, restricted: bool) -> None:
    served, other = release.server.namespace(), release.server.namespace()
    release.install({"watchNamespaces": [served] if restricted else []})
    operator = release.operate()
    operator.wait_leading()
    release.server.kubectl("-n", served, "apply", "-f", "-", input=json.dumps(worker("sim", replicas=2)))
    wait_until(lambda: _reason(release, served) == "Scheduling", "its status is written")
    for path in ("pods", "services"):
        assert len(release.server.admin.items(f"/api/v1/namespaces/{served}/{path}")) == 2
    assert release.server.admin.items(f"/apis/policy/v1/namespaces/{served}/poddisruptionbudgets")
    assert operator.complaints() == []
    account = f"system:serviceaccount:{release.namespace}:rhapsode-operator"
    assert release.may(account, "create", "pods", served)
    assert release.may(account, "create", "pods", other) is not restricted
    assert not release.may(account, "get", "secrets", served)
    assert not release.may(account, "update", "coordination.k8s.io/leases", served)


def _reason(release: Release, namespace: str) -> str:
    path = f"/apis/rhapsode.dev/v1alpha1/namespaces/{namespace}/inferenceworkers/sim"
    status = release.server.get(path).get("status", {})
    return next((one["reason"] for one in status.get("conditions", ()) if one["type"] == "Ready"), "")


def test_those_who_view_or_edit_a_namespace_do_so_with_its_workers(release: Release) -> None:
    release.install()
    namespace = release.server.namespace()
    for role in ("view", "edit"):
        release.server.kubectl(
            "-n", namespace, "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}"
        )
    with ControllerManager(release.server):
        wait_until(lambda: release.may("edit", "create", WORKER_KIND, namespace), "the roles are joined")
        wait_until(lambda: release.may("view", "list", WORKER_KIND, namespace), "the roles are joined")
    assert not release.may("view", "delete", WORKER_KIND, namespace)
    assert not release.may("edit", "create", WORKER_KIND, release.server.namespace())

"""The operator's process on a real API server: start, lead, watch, survive, end."""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rhapsode_operator.permissions import role_yaml
from support.api_server import ApiServer
from support.documents import ROOT
from support.operators import LEASE, complaints, shorten_lease
from support.processes import wait_until
from support.roles import grant
from support.tiny_operator import TinyOperator

CRD = ROOT / "crds/inferenceworkers.rhapsode.dev.yaml"
WORKERS = "/apis/rhapsode.dev/v1alpha1/namespaces/{}/inferenceworkers"
Start = Callable[..., TinyOperator]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start operators, and end them."""
    running: list[TinyOperator] = []

    def begin(server: ApiServer, namespace: str, token: str | None = None, **environ: str) -> TinyOperator:
        running.append(TinyOperator(server.kubeconfig(token), namespace, **environ))
        return running[-1]

    yield begin
    for operator in running:
        operator.close()


@pytest.fixture
def cluster(api_server: ApiServer) -> ApiServer:
    api_server.install_crd(CRD)
    return api_server


def worker(name: str = "w", source: str = "builtin://simulator") -> dict[str, Any]:
    return {
        "apiVersion": "rhapsode.dev/v1alpha1",
        "kind": "InferenceWorker",
        "metadata": {"name": name},
        "spec": {"model": {"source": source}},
    }


def pod(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


# What it does


def test_a_resource_is_reconciled_under_exactly_the_shipped_role(
    cluster: ApiServer, namespace: str, start: Start
) -> None:
    operator = start(cluster, namespace, grant(cluster, namespace, role_yaml()))
    operator.wait_record("began")
    cluster.post(WORKERS.format(namespace), worker())
    operator.wait_run("w", seen="builtin://simulator")
    service = wait_until(
        lambda: cluster.admin.find(f"/api/v1/namespaces/{namespace}/services/w"), "the Service is there"
    )
    assert service["metadata"]["annotations"] == {"source": "builtin://simulator"}
    assert complaints(operator) == []
    assert operator.errors == []


def test_what_was_there_before_it_started_is_reconciled(cluster: ApiServer, namespace: str, start: Start) -> None:
    for number in range(20):
        cluster.post(WORKERS.format(namespace), worker(f"w-{number}"))
    operator = start(cluster, namespace)
    for number in range(20):
        run = operator.wait_run(f"w-{number}")
        assert run["read"] == 20, "every resource is known before the first is reconciled"


def test_a_resource_without_rights_on_namespaces_and_crds_is_soon_reconciled(
    cluster: ApiServer, namespace: str, start: Start
) -> None:
    """kopf's scanning would retry forbidden lists for 55 s first."""
    cluster.post(WORKERS.format(namespace), worker())
    operator = start(cluster, namespace, grant(cluster, namespace, role_yaml()))
    operator.wait_run("w")
    assert operator.metric('rhapsode_kube_requests_total{code="403",verb="GET"}') == 0
    assert complaints(operator) == [], "kopf tells of each list that it is refused"


def test_a_change_a_pod_and_a_deletion_are_each_seen_and_then_forgotten(
    cluster: ApiServer, namespace: str, start: Start
) -> None:
    operator = start(cluster, namespace)
    path, pods = f"{WORKERS.format(namespace)}/w", f"/api/v1/namespaces/{namespace}/pods"
    cluster.post(WORKERS.format(namespace), worker())
    operator.wait_run("w", seen="builtin://simulator", pods=[])
    cluster.patch(path, {"spec": {"model": {"source": "hf://other/model"}}})
    operator.wait_run("w", seen="hf://other/model")
    cluster.post(pods, pod("w-0", **{"rhapsode.dev/worker": "w"}))
    operator.wait_run("w", pods=["w-0"])
    cluster.delete(f"{pods}/w-0", gracePeriodSeconds="0")
    count = len(operator.runs("w"))
    wait_until(lambda: any(run["pods"] == [] for run in operator.runs("w")[count - 1 :]), "the pod is gone")
    cluster.delete(path)
    run = operator.wait_run("w", there=False)
    assert "seen" not in run


def test_it_serves_its_namespaces_and_no_other(cluster: ApiServer, namespace: str, start: Start) -> None:
    elsewhere = cluster.namespace()
    operator = start(cluster, namespace)
    operator.wait_record("began")
    cluster.post(WORKERS.format(elsewhere), worker("other"))
    cluster.post(WORKERS.format(namespace), worker("mine"))
    operator.wait_run("mine", read=1)
    assert operator.runs("other") == []


def test_the_whole_cluster_is_served_where_no_namespace_is_named(
    cluster: ApiServer, namespace: str, start: Start
) -> None:
    elsewhere = cluster.namespace()
    operator = start(cluster, namespace, RHAPSODE_WATCH_NAMESPACES="")
    for place in (namespace, elsewhere):
        cluster.post(WORKERS.format(place), worker(f"in-{place}"))
        operator.wait_run(f"in-{place}")


def test_it_writes_nothing_of_its_own_on_what_it_watches(cluster: ApiServer, namespace: str, start: Start) -> None:
    """kopf strips what it takes for its own finalizer, and other handlers of it write annotations."""
    marker = "kopf.zalando.org/KopfFinalizerMarker"
    body = worker()
    body["metadata"]["finalizers"] = [marker, "example.com/theirs"]
    labelled = pod("w-0", **{"rhapsode.dev/worker": "w"})
    labelled["metadata"]["finalizers"] = [marker]
    cluster.post(WORKERS.format(namespace), body)
    cluster.post(f"/api/v1/namespaces/{namespace}/pods", labelled)
    operator = start(cluster, namespace)
    operator.wait_run("w", pods=["w-0"])
    count = len(operator.runs("w"))
    cluster.patch(f"{WORKERS.format(namespace)}/w", {"metadata": {"labels": {"seen": "again"}}})
    wait_until(lambda: len(operator.runs("w")) > count, "the change is reconciled")
    kept = cluster.get(f"{WORKERS.format(namespace)}/w")["metadata"]
    assert kept["finalizers"] == [marker, "example.com/theirs"]
    assert "annotations" not in kept
    assert cluster.get(f"/api/v1/namespaces/{namespace}/pods/w-0")["metadata"]["finalizers"] == [marker]
    for path in (f"{WORKERS.format(namespace)}/w", f"/api/v1/namespaces/{namespace}/pods/w-0"):
        cluster.patch(path, {"metadata": {"finalizers": None}})


# What it survives


def test_an_api_server_that_restarts_costs_neither_the_lease_nor_a_change(
    cluster: ApiServer, namespace: str, start: Start
) -> None:
    operator = start(cluster, namespace)
    cluster.post(WORKERS.format(namespace), worker("before"))
    operator.wait_run("before")
    cluster.restart()
    cluster.post(WORKERS.format(namespace), worker())
    operator.wait_run("w", seconds=120)
    assert operator.metric("rhapsode_leader") == 1
    assert operator.page("/healthz") == (200, "ok\n")


def test_the_second_operator_takes_over_when_the_first_stops(
    cluster: ApiServer, namespace: str, start: Start
) -> None:
    first = start(cluster, namespace)
    first.wait_record("began")
    second = start(cluster, namespace)
    wait_until(lambda: second.page("/readyz")[0] == 200, "the standby is ready")
    assert second.metric("rhapsode_leader") == 0
    first.send(signal.SIGTERM)
    second.wait_record("began")
    cluster.post(WORKERS.format(namespace), worker())
    second.wait_run("w")
    assert first.wait() == 0


def test_a_killed_leader_is_followed(cluster: ApiServer, namespace: str, start: Start) -> None:
    first = start(cluster, namespace)
    first.wait_record("began")
    second = start(cluster, namespace)
    first.process.kill()
    first.wait()
    shorten_lease(cluster, namespace)
    second.wait_record("began")


def test_an_operator_whose_lease_was_taken_ends_at_once_with_one_line(
    cluster: ApiServer, namespace: str, start: Start
) -> None:
    operator = start(cluster, namespace)
    operator.wait_record("began")
    cluster.patch(LEASE.format(namespace), {"spec": {"holderIdentity": "thief"}})
    assert operator.wait() == 1
    assert len(operator.errors) == 1
    assert "was taken by another operator" in operator.errors[0]


def test_an_operator_that_was_frozen_beyond_its_lease_ends_instead_of_acting(
    cluster: ApiServer, namespace: str, start: Start
) -> None:
    # As short as a stall of the machine leaves it to its holder until it is frozen.
    first = start(cluster, namespace, RHAPSODE_LEASE_SECONDS="10", RHAPSODE_LEASE_RENEW_SECONDS="9")
    first.wait_record("began")
    first.send(signal.SIGSTOP)
    second = start(cluster, namespace)
    second.wait_record("began")
    cluster.post(WORKERS.format(namespace), worker())
    second.wait_run("w")
    first.send(signal.SIGCONT)
    assert first.wait() == 1
    assert first.runs("w") == []


def test_a_watch_that_is_forbidden_later_ends_the_operator_with_one_line(
    cluster: ApiServer, namespace: str, start: Start
) -> None:
    token = grant(cluster, namespace, role_yaml())
    operator = start(cluster, namespace, token)
    cluster.post(WORKERS.format(namespace), worker())
    operator.wait_run("w")
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rules = cluster.get(f"{base}/roles/rhapsode-operator")["rules"]
    cluster.patch(
        f"{base}/roles/rhapsode-operator", {"rules": [rule for rule in rules if "pods" not in rule["resources"]]}
    )
    cluster.restart()  # which ends the watch that still runs
    assert operator.wait(120) == 1
    assert "the watch ended" in operator.errors[-1]


def test_a_pod_that_was_there_before_is_known_at_the_first_reconcile(
    cluster: ApiServer, namespace: str, start: Start
) -> None:
    """Otherwise a new leader would take every pod for missing."""
    for number in range(30):
        cluster.post(WORKERS.format(namespace), worker(f"w-{number}"))
        labelled = pod(f"w-{number}-0", **{"rhapsode.dev/worker": f"w-{number}"})
        cluster.post(f"/api/v1/namespaces/{namespace}/pods", labelled)
    operator = start(cluster, namespace)
    for number in range(30):
        operator.wait_run(f"w-{number}")
        assert operator.runs(f"w-{number}")[0]["pods"] == [f"w-{number}-0"]


# How it ends


def test_sigterm_ends_it_in_order_with_the_lease_released(cluster: ApiServer, namespace: str, start: Start) -> None:
    operator = start(cluster, namespace)
    cluster.post(WORKERS.format(namespace), worker())
    operator.wait_run("w")
    operator.send(signal.SIGTERM)
    assert operator.wait() == 0
    lease = cluster.get(LEASE.format(namespace))
    assert lease["spec"].get("holderIdentity", "") == ""
    assert operator.records[-1]["event"] == "ended" or "ended" in [one["event"] for one in operator.records]
    assert operator.errors == []


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_signals_that_go_on_while_it_ends_change_nothing(
    cluster: ApiServer, namespace: str, start: Start, sent: signal.Signals
) -> None:
    operator = start(cluster, namespace)
    operator.wait_record("began")
    while operator.process.poll() is None:
        operator.send(sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            operator.process.wait(0.01)
    assert operator.wait() == 0
    assert cluster.get(LEASE.format(namespace))["spec"].get("holderIdentity", "") == ""


def test_sigterm_ends_a_standby(cluster: ApiServer, namespace: str, start: Start) -> None:
    start(cluster, namespace).wait_record("began")
    standby = start(cluster, namespace)
    wait_until(lambda: standby.page("/readyz")[0] == 200, "the standby is ready")
    standby.send(signal.SIGTERM)
    assert standby.wait() == 0


def test_metrics_tell_what_was_done(cluster: ApiServer, namespace: str, start: Start) -> None:
    operator = start(cluster, namespace)
    cluster.post(WORKERS.format(namespace), worker())
    operator.wait_run("w")
    wait_until(lambda: operator.metric('rhapsode_reconcile_total{result="ok"}') >= 1, "the run is counted")
    assert operator.metric('rhapsode_kube_requests_total{code="201",verb="APPLY"}') == 1
    assert operator.metric("rhapsode_workqueue_adds_total") >= 1
    assert operator.metric("rhapsode_leader") == 1
    assert operator.page("/readyz") == (200, "ok\n")

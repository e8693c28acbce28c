"""What goes wrong between the operator and the API server costs time, and neither a pod nor a change."""

from collections.abc import Iterator

import pytest

from support.api_faults import ApiFaults
from support.kubelet import Kubelet
from support.operators import LEASE, Cluster, Operator, kill, shorten_lease
from support.pod_audits import PodAudit
from support.pod_calls import PodCall
from support.processes import wait_until

NAMES = ("a", "b", "c")
PATIENT = {"RHAPSODE_LEASE_SECONDS": "90", "RHAPSODE_LEASE_RENEW_SECONDS": "60"}
BOUNDED = {"RHAPSODE_LEASE_SECONDS": "20", "RHAPSODE_LEASE_RENEW_SECONDS": "15"}
EAGER = {"waitForIdle": False}


@pytest.fixture
def hollow(cluster: Cluster) -> Iterator[Kubelet]:
    """Nodes whose pods only say that they run."""
    with Kubelet(cluster.server, hollow_s=0.1) as running:
        yield running


@pytest.fixture
def faults(cluster: Cluster) -> Iterator[ApiFaults]:
    with ApiFaults(cluster.server) as between:
        yield between


@pytest.fixture
def audit(cluster: Cluster) -> Iterator[PodAudit]:
    with PodAudit(cluster.server, cluster.namespace, dict.fromkeys((*NAMES, "sim"), 2)) as watching:
        yield watching


def apply_all(cluster: Cluster, seed: int) -> None:
    for name in NAMES:
        cluster.apply(name, replicas=2, rollout=EAGER, options={"seed": seed})


def wait_all(cluster: Cluster) -> None:
    for name in NAMES:
        cluster.wait_ready(name)


def test_refused_writes_lost_answers_and_cut_watches_cost_time_only(
    cluster: Cluster, hollow: Kubelet, faults: ApiFaults, audit: PodAudit
) -> None:
    operator = cluster.operate(faults.kubeconfig(cluster.token), **PATIENT)
    operator.wait_leading()
    faults.refused_share, faults.lost_share = 0.25, 0.05
    apply_all(cluster, 0)
    wait_all(cluster)
    audit.begin_to_count(*NAMES)
    for seed in (1, 2):
        audit.catch_up()
        made = audit.made.total()
        apply_all(cluster, seed)
        for more in (1, 3, 5):
            audit.wait_made(made + more)
            faults.cut_watches()
        wait_all(cluster)
    assert faults.struck > 20
    audit.catch_up()
    assert [audit.made[name] for name in NAMES] == [6, 6, 6]
    assert all(audit.fewest[name] >= 1 for name in NAMES)
    faults.refused_share = faults.lost_share = 0.0
    for name in NAMES:
        told = [event["note"] for event in cluster.events(name) if event["reason"] == "AllReplicasReady"]
        assert len(told) <= 3, "one Event for each time that it became ready"
    assert operator.errors == []
    assert operator.process.poll() is None


def test_a_pod_that_the_watch_has_not_told_of_is_neither_made_twice_nor_changed(
    cluster: Cluster, hollow: Kubelet, faults: ApiFaults, audit: PodAudit
) -> None:
    """Its processes have read what they were made for: a new manifest in an old pod would be a lie."""
    operator = cluster.operate(faults.kubeconfig(cluster.token))
    operator.wait_leading()
    cluster.apply("b")
    cluster.wait_ready("b")
    faults.hold_watches("/pods")
    cluster.apply()
    wait_until(lambda: "sim-0" in cluster.pods(), "the pod is made")
    cluster.apply(rollout=EAGER, options={"seed": 7})
    runs = operator.metric('rhapsode_reconcile_total{result="ok"}')
    wait_until(lambda: operator.metric('rhapsode_reconcile_total{result="ok"}') > runs, "the change is seen")
    faults.release_watches("/pods")
    cluster.wait_ready()
    audit.catch_up()
    assert audit.made["sim"] == 2


def test_an_api_server_that_restarts_in_a_rollout_stops_neither_the_rollout_nor_a_stream(
    cluster: Cluster, kubelet: Kubelet, audit: PodAudit
) -> None:
    operator = cluster.operate(**PATIENT)
    cluster.apply(replicas=2)
    cluster.wait_ready()
    audit.begin_to_count("sim")
    with PodCall(kubelet.address("sim-1"), tokens=600) as call:
        call.wait()
        cluster.apply(replicas=2, options={"seed": 7})
        cluster.wait_condition("Ready", "RollingOut")
        cluster.server.restart()
        call.finish()
    cluster.wait_ready("sim", 90)
    audit.catch_up()
    assert audit.made["sim"] == 4
    assert operator.errors == []


def test_a_second_operator_finishes_what_a_killed_leader_began(
    cluster: Cluster, hollow: Kubelet, audit: PodAudit
) -> None:
    leader = cluster.operate()
    leader.wait_leading()
    standby = cluster.operate(RHAPSODE_POD_NAME="operator-1")
    apply_all(cluster, 0)
    wait_all(cluster)
    apply_all(cluster, 1)
    audit.wait_made(7)
    lose(leader, cluster)
    wait_all(cluster)
    audit.catch_up()
    assert [audit.made[name] for name in NAMES] == [4, 4, 4]
    assert standby.complaints() == []


def test_two_operators_that_both_work_make_no_pod_twice(cluster: Cluster, hollow: Kubelet, audit: PodAudit) -> None:
    """They should not: each has a Lease of its own."""
    both = [cluster.operate(RHAPSODE_LEASE_NAME=name, RHAPSODE_POD_NAME=name) for name in ("one", "two")]
    for operator in both:
        operator.wait_leading()
    for seed in range(3):
        apply_all(cluster, seed)
        wait_all(cluster)
    cluster.kubectl("scale", "iw", *NAMES, "--replicas=1")
    wait_all(cluster)
    audit.catch_up()
    assert [audit.made[name] for name in NAMES] == [6, 6, 6]
    for operator in both:
        assert operator.complaints() == []
        assert operator.errors == []


def test_an_operator_that_cannot_renew_its_lease_ends_and_the_next_one_goes_on(
    cluster: Cluster, hollow: Kubelet, faults: ApiFaults, audit: PodAudit
) -> None:
    first = cluster.operate(faults.kubeconfig(cluster.token), **BOUNDED)
    first.wait_leading()
    apply_all(cluster, 0)
    wait_all(cluster)
    faults.hold_watches("/pods")  # so that its rollout stays in the middle
    faults.blocked = "/leases"
    apply_all(cluster, 1)
    assert first.wait() == 1
    assert len(first.errors) == 1
    assert "could not be renewed" in first.errors[0]
    faults.release_watches("/pods")
    second = cluster.operate(RHAPSODE_POD_NAME="operator-1")
    wait_all(cluster)
    audit.catch_up()
    assert [audit.made[name] for name in NAMES] == [4, 4, 4]
    assert second.complaints() == []


@pytest.mark.parametrize("skew_s", [-60.0, 60.0])
def test_a_clock_that_is_a_minute_off_neither_takes_a_lease_nor_makes_another_pod(
    cluster: Cluster, hollow: Kubelet, audit: PodAudit, skew_s: float
) -> None:
    leader = cluster.operate()
    leader.wait_leading()
    with ApiFaults(cluster.server, skew_s=skew_s) as wrong:
        standby = cluster.operate(wrong.kubeconfig(cluster.token), RHAPSODE_POD_NAME="operator-1")
        wait_renewals(cluster, 15)
        assert leader.process.poll() is None
        assert metric_when_up(standby) == 0
        lose(leader, cluster)
        standby.wait_leading()
        for seed in (0, 1):
            apply_all(cluster, seed)
            wait_all(cluster)
        audit.catch_up()
        assert [audit.made[name] for name in NAMES] == [4, 4, 4]
        assert standby.complaints() == []
        standby.close()


def lose(leader: Operator, cluster: Cluster) -> None:
    """Kill the one that leads, and spare us the wait for its long Lease."""
    kill(leader)
    shorten_lease(cluster.server, cluster.namespace)


def wait_renewals(cluster: Cluster, count: int) -> None:
    """Wait until the Lease was renewed so often, by its holder."""
    seen: set[str] = set()

    def renewed() -> bool:
        lease = cluster.server.get(LEASE.format(cluster.namespace))
        assert lease["spec"]["holderIdentity"] == "operator-0"
        seen.add(lease["metadata"]["resourceVersion"])
        return len(seen) > count

    wait_until(renewed, f"the Lease is renewed {count} times")


def metric_when_up(operator: Operator) -> float:
    wait_until(operator.is_up, "the standby is up")
    return operator.metric("rhapsode_leader")

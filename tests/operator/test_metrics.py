"""What the page of metrics says."""

from typing import Literal, cast

from rhapsode_contract.statuses import Condition, ConditionType
from rhapsode_operator.assembling import Assembly
from rhapsode_operator.kube import Kube
from rhapsode_operator.metrics import Metrics
from rhapsode_operator.queueing import Queue
from rhapsode_operator.reconciling import Reconciler
from rhapsode_operator.running import Parts
from rhapsode_operator.serving import Health
from rhapsode_operator.settings import OperatorSettings
from rhapsode_operator.watched import Watched
from support.fake_cluster import FakeCluster
from support.snapshots import told


def page(metrics: Metrics) -> list[str]:
    return metrics.page().decode().splitlines()


async def test_the_relays_that_are_listened_to_are_counted() -> None:
    metrics, seam = Metrics(), Assembly()
    queue = Queue(metrics)
    watched = Watched(queue, Health(metrics).pulse, seam.make_worker, seam.make_pod)
    settings = OperatorSettings.from_env({})
    kube = cast("Kube", FakeCluster())
    made = seam.make_reconciler(Parts(settings=settings, kube=kube, queue=queue, watched=watched, metrics=metrics))
    assert isinstance(made, Reconciler)
    assert "rhapsode_telemetry_streams 0.0" in page(metrics)
    lost = told()
    lost.lose(1.0)
    made.telemetry.tales |= {"one": told(), "two": told(), "three": lost}
    assert "rhapsode_telemetry_streams 2.0" in page(metrics)


def test_events_are_counted_by_what_became_of_them() -> None:
    metrics = Metrics()
    metrics.event_posted("refused")
    assert 'rhapsode_events_posted_total{result="refused"} 1.0' in page(metrics)


def test_what_holds_of_a_resource_is_told_until_it_is_gone() -> None:
    metrics, key = Metrics(), ("ns", "w")
    metrics.worker_conditions(
        key, [condition("Ready", "False", "Loading"), condition("VRAMPressure", "Unknown", "?")]
    )
    metrics.worker_conditions(key, [condition("Ready", "True", "AllReplicasReady")])
    metrics.worker_conditions(("ns", "v"), [condition("Stalled", "True", "ImagePull")])
    assert [line for line in page(metrics) if line.startswith("rhapsode_worker_condition")] == [
        'rhapsode_worker_condition{condition="Ready",namespace="ns",reason="AllReplicasReady",worker="w"} 1.0',
        'rhapsode_worker_condition{condition="Stalled",namespace="ns",reason="ImagePull",worker="v"} 1.0',
    ]
    for gone in (key, key, ("ns", "v")):
        metrics.worker_conditions(gone, ())
    assert not [line for line in page(metrics) if line.startswith("rhapsode_worker_condition")]


def condition(kind: ConditionType, status: Literal["True", "False", "Unknown"], reason: str) -> Condition:
    return Condition(type=kind, status=status, reason=reason)

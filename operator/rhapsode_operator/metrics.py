"""What the operator counts, for Prometheus. Made once by `running`; everyone who counts gets it injected.

Names follow controller-runtime where it has one for the same thing, so that existing dashboards fit.
"""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rhapsode_contract.statuses import Condition, ConditionType
from rhapsode_operator.queueing import Key

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
_TOLD: tuple[ConditionType, ...] = ("Ready", "ModelLoaded", "Stalled", "VRAMPressure")


class Metrics:
    """Counters and gauges in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._reconciles = Counter("rhapsode_reconcile", "Reconciles, by result.", ["result"], registry=registry)
        self._reconcile_s = Histogram(
            "rhapsode_reconcile_seconds", "How long a reconcile takes.", buckets=_FAST, registry=registry
        )
        self._adds = Counter("rhapsode_workqueue_adds", "Keys added to the queue.", registry=registry)
        self._retries = Counter("rhapsode_workqueue_retries", "Runs that failed and come again.", registry=registry)
        self._wait_s = Histogram(
            "rhapsode_workqueue_wait_seconds", "How long a key waits for a worker.", buckets=_FAST, registry=registry
        )
        self.depth = Gauge("rhapsode_workqueue_depth", "Keys that wait.", registry=registry)
        self.flying = Gauge("rhapsode_workqueue_running", "Keys that are being reconciled.", registry=registry)
        self.oldest_flight = Gauge(
            "rhapsode_workqueue_longest_running_seconds", "How long the longest run takes already.", registry=registry
        )
        self.leader = Gauge("rhapsode_leader", "1 while this operator leads.", registry=registry)
        self.loop_lag = Gauge("rhapsode_loop_lag_seconds", "How late the event loop was last.", registry=registry)
        self.last_event_age = Gauge(
            "rhapsode_watch_last_event_age_seconds", "Seconds since the watch told of a change.", registry=registry
        )
        self.unseen_age = Gauge(
            "rhapsode_watch_unseen_seconds",
            "How long the watch has owed us the oldest change that the API server has told of otherwise.",
            registry=registry,
        )
        self._status_writes = Counter(
            "rhapsode_status_writes", "Status writes, by field manager.", ["manager"], registry=registry
        )
        self._workers = Gauge("rhapsode_workers", "InferenceWorkers, by phase.", ["phase"], registry=registry)
        self._requests = Counter(
            "rhapsode_kube_requests", "Requests to the API server.", ["verb", "code"], registry=registry
        )
        self._request_s = Histogram(
            "rhapsode_kube_request_seconds", "How long they take.", ["verb"], buckets=_FAST, registry=registry
        )
        self._events = Counter("rhapsode_events_posted", "Events, by result.", ["result"], registry=registry)
        self.streams = Gauge("rhapsode_telemetry_streams", "Relays that are listened to.", registry=registry)
        """Whoever listens gives it a function."""
        self._conditions = _Conditions(registry)

    def page(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)

    # What the queue counts

    def added(self) -> None:
        self._adds.inc()

    def retried(self) -> None:
        self._retries.inc()

    def waited(self, seconds: float) -> None:
        self._wait_s.observe(seconds)

    def worked(self, result: str, seconds: float) -> None:
        self._reconciles.labels(result).inc()
        self._reconcile_s.observe(seconds)

    # What the client counts

    def called(self, verb: str, code: str, seconds: float) -> None:
        """Count a request; `code` is "none" for one that was not answered."""
        self._requests.labels(verb, code).inc()
        self._request_s.labels(verb).observe(seconds)

    # What the reconciler counts

    def status_written(self, manager: str) -> None:
        self._status_writes.labels(manager).inc()

    def event_posted(self, result: str) -> None:
        """Count an Event: it was posted, known already, refused, it failed, or was dropped."""
        self._events.labels(result).inc()

    def workers_by_phase(self, counts: dict[str, int]) -> None:
        """Say how many resources are in each phase."""
        self._workers.clear()
        for phase, count in counts.items():
            self._workers.labels(phase).set(count)

    def worker_conditions(self, key: Key, conditions: Sequence[Condition]) -> None:
        """Say what holds of a resource; none when it is no more."""
        self._conditions.note(key, conditions)


class _Conditions(Collector):
    """What holds of each resource, read when asked for: a reason that changes leaves nothing behind."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._told: dict[Key, list[tuple[str, str, bool]]] = {}
        registry.register(self)

    def note(self, key: Key, conditions: Sequence[Condition]) -> None:
        if not conditions:
            self._told.pop(key, None)
            return
        known = [one for one in conditions if one.type in _TOLD and one.status != "Unknown"]
        self._told[key] = [(one.type, one.reason, one.status == "True") for one in known]

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "rhapsode_worker_condition",
            "1 if a condition of an InferenceWorker is True, 0 if it is False; Unknown is not told.",
            labels=["namespace", "worker", "condition", "reason"],
        )
        for (namespace, name), conditions in self._told.items():
            for kind, reason, holds in conditions:
                family.add_metric([namespace, name, kind, reason], holds)
        yield family

"""Write statuses: the operator's part when it changes, telemetry's part under its budget. Called by `reconciling`."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from rhapsode_contract.conditions import REASONS
from rhapsode_contract.names import API_VERSION, KIND
from rhapsode_contract.records import timestamp
from rhapsode_contract.statuses import Condition, Status
from rhapsode_operator import budgeting, reporting
from rhapsode_operator.acting import MANAGER, key_of
from rhapsode_operator.announcing import announce, event_body
from rhapsode_operator.cases import Case, Phases
from rhapsode_operator.errors import RetryableError
from rhapsode_operator.judging import Verdict
from rhapsode_operator.observing import Worker
from rhapsode_operator.posting import Poster
from rhapsode_operator.projecting import troubled
from rhapsode_operator.queueing import Key

TELEMETRY_MANAGER = "rhapsode-telemetry"
Timers = list[float]


class StatusCluster(Protocol):
    """Where statuses go."""

    async def apply_status(self, body: dict[str, Any], *, manager: str) -> dict[str, Any]: ...


class StatusMeter(Protocol):
    """Counts status writes, phases and what holds."""

    def status_written(self, manager: str) -> None: ...
    def workers_by_phase(self, counts: dict[str, int]) -> None: ...
    def worker_conditions(self, key: Key, conditions: Sequence[Condition]) -> None: ...


class Scribe:
    """Writes the statuses of all resources, and announces what changed."""

    def __init__(
        self, cluster: StatusCluster, meter: StatusMeter, poster: Poster, identity: str, clock: Callable[[], float]
    ) -> None:
        self._cluster, self._meter, self._poster = cluster, meter, poster
        self._identity, self._clock = identity, clock
        self._phases = Phases(meter.workers_by_phase)
        self._replaced: dict[Key, str] = {}
        """The uid of a resource whose name another has, though the watch has not told yet."""

    def forget(self, key: Key) -> None:
        """A resource is no more."""
        self._phases.forget(key)
        self._meter.worker_conditions(key, ())
        self._replaced.pop(key, None)

    async def write(self, worker: Worker, case: Case, status: Status) -> None:
        """Write the operator's part of the status, and announce what changed, if anything did."""
        now = self._clock()
        old = case.latest_status(worker, now)
        self._phases.note(key_of(worker), status.phase or "Pending")
        self._meter.worker_conditions(key_of(worker), status.conditions)
        if _main_part(old) == _main_part(status):
            return
        for said in announce(old, status):
            self._poster.post(event_body(worker, said, timestamp(), self._identity))
        await self._apply_status(worker, _main_part(status), MANAGER)
        case.status, case.status_at = status, now

    async def report(self, worker: Worker, case: Case, told: reporting.Told, timers: Timers) -> None:
        """Write telemetry's part of the status, if the budget allows; else come back when it does.

        Before a relay has told anything, what an operator before us wrote stays.
        """
        if case.report is None and told and not any(tale.met for _, tale in told):
            return
        now = self._clock()
        gauge = reporting.gauge(told, now)
        wait_s = budgeting.wait_s(case.report, gauge, now)
        if wait_s:
            timers.append(wait_s)
        if wait_s != 0.0:
            return
        fresh = reporting.report(told, time.time())
        stands = case.report is None and reporting.stands(fresh, worker.status)
        if not stands and fresh != case.reported and (told or case.reported or _has_telemetry(worker.status)):
            await self._apply_status(worker, _telemetry_part(fresh), TELEMETRY_MANAGER)
        case.report, case.reported = budgeting.write(case.report, gauge, now), fresh

    async def _apply_status(self, worker: Worker, status: dict[str, Any], manager: str) -> None:
        """Write a part of a status. No uid keeps it from a successor of that name: the answer tells who got it."""
        metadata = {"name": worker.name, "namespace": worker.namespace}
        body: dict[str, Any] = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata}
        if self._replaced.get(key_of(worker)) != worker.uid:
            written = await self._cluster.apply_status(body | {"status": status}, manager=manager)
            self._meter.status_written(manager)
            if written["metadata"]["uid"] == worker.uid:
                return
            await self._cluster.apply_status(body, manager=manager)  # none: an empty one is refused
            self._replaced[key_of(worker)] = worker.uid
        raise RetryableError(f"{KIND} {worker.name} is another one by now", reason="Replaced", status=409)


def unreadable(worker: Worker, old: Status) -> Status:
    """Return the status of a resource that an older CRD let in."""
    said = f"{worker.problem}. {REASONS['InvalidSpec'].remedy}"
    return troubled(worker, old, Verdict("InvalidSpec", said), timestamp())


def _main_part(status: Status) -> dict[str, Any]:
    """Return what the operator's manager owns of a status."""
    lean = msgspec.structs.replace(status, load=None, vram=None, narration=None)
    part: dict[str, Any] = msgspec.to_builtins(lean)
    for replica in part.get("workers", ()):
        replica.pop("load", None)
        replica.setdefault("ready", False)
    return part | {"replicas": status.replicas, "readyReplicas": status.ready_replicas}


def _has_telemetry(status: Status) -> bool:
    return any((status.load, status.vram, status.narration))


def _telemetry_part(status: Status) -> dict[str, Any]:
    part: dict[str, Any] = msgspec.to_builtins(status)
    return {name: part[name] for name in ("load", "vram", "narration", "workers") if name in part}

"""Make one resource so: observe, plan, act, tell. Called by the queue with a key; idempotent.

Writes follow one another per resource, because the queue never hands out a key twice at once. What went wrong is
told in the status first and then raised, so that the queue decides when to try again.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from rhapsode_contract.conditions import REASONS
from rhapsode_contract.names import DEFAULT_ADMIN_PORT
from rhapsode_contract.records import timestamp
from rhapsode_operator import budgeting, reporting
from rhapsode_operator.acting import Cluster, Hands, key_of
from rhapsode_operator.announcing import announce_stage, event_body
from rhapsode_operator.building import Blueprint, Images
from rhapsode_operator.cases import Case
from rhapsode_operator.errors import ForbiddenError, OperatorError, RefusedError, RetryableError
from rhapsode_operator.judging import UNREACHABLE_AFTER_S, Verdict, judge
from rhapsode_operator.narrating import STILL_S, Teller, outdated
from rhapsode_operator.observing import Pod, Worker
from rhapsode_operator.planning import OUTDATED, Plan, Removal, Wanted, plan
from rhapsode_operator.posting import Poster
from rhapsode_operator.projecting import Seen, project
from rhapsode_operator.queueing import Key
from rhapsode_operator.tales import Tale
from rhapsode_operator.telemetry import Telemetry
from rhapsode_operator.writing import Scribe, StatusCluster, StatusMeter, Timers, unreadable

OBJECTS_S = 600.0
"""How often Services and budget are applied again: nobody watches them."""


TAKEN_S = 30.0
"""How often a name is tried that another object has."""


class Store(Protocol):
    """What the watch saw."""

    def worker(self, key: Key) -> Worker | None: ...
    def pods(self, key: Key) -> list[Pod]: ...


class Line(Protocol):
    """The queue."""

    def add(self, key: Key) -> None: ...
    def add_after(self, key: Key, seconds: float) -> None: ...


class StatusedCluster(Cluster, StatusCluster, Protocol):
    """The API server."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What a reconciler works with."""

    cluster: StatusedCluster
    store: Store
    line: Line
    meter: StatusMeter
    poster: Poster


class Reconciler:
    """All resources of one operator."""

    def __init__(
        self,
        ports: Ports,
        images: Images,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._store, self._line = ports.cluster, ports.store, ports.line
        self._poster = ports.poster
        self._images, self._identity, self._clock = images, identity, clock
        self._hands = Hands(ports.cluster)
        self._cases: dict[Key, Case] = {}
        self._scribe = Scribe(ports.cluster, ports.meter, ports.poster, identity, clock)
        self.telemetry = Telemetry(self, DEFAULT_ADMIN_PORT, clock)

    async def start(self) -> None:
        """Begin to lead."""
        await self.telemetry.start()
        await self._poster.start()

    async def stop(self) -> None:
        """Lead no more."""
        await self.telemetry.stop()
        await self._poster.stop()

    def moved(self, key: Key, *, at_once: bool) -> None:
        """A pod told something: look now if it matters, else when the write budget allows."""
        if at_once:
            self._line.add(key)
        elif case := self._cases.get(key):
            gauge = reporting.gauge(self._told(key, case), self._clock())
            wait_s = budgeting.wait_s(case.report, gauge, self._clock())
            if wait_s is not None:
                self._line.add_after(key, wait_s)

    async def reconcile(self, key: Key) -> float | None:
        """Bring one resource nearer to its spec; return after how many seconds to look again."""
        worker = self._store.worker(key)
        if worker is None or worker.deleting:
            self._forget(key)
            return None
        case = self._cases.get(key)
        if case is None or case.uid != worker.uid:
            case = self._cases[key] = Case.of(worker)
        if worker.resource is None:
            await self._scribe.write(worker, case, unreadable(worker, case.latest_status(worker, self._clock())))
            return None
        return await self._settle(worker, case, Blueprint(
            resource=worker.resource, images=self._images, restarted_at=worker.restarted_at,
        ))  # fmt: skip

    def _forget(self, key: Key) -> None:
        """Its objects go with it: Kubernetes' garbage collection needs no help of ours."""
        self._cases.pop(key, None)
        self._scribe.forget(key)
        self.telemetry.follow(key, ())

    async def _settle(self, worker: Worker, case: Case, blueprint: Blueprint) -> float | None:
        now, key = self._clock(), key_of(worker)
        seen_pods = self._store.pods(key)
        ours = [pod for pod in seen_pods if pod.owner == worker.uid]
        spec = blueprint.resource.spec
        self.telemetry.follow(key, ours, spec.relay.heartbeat_seconds)
        wanted = Wanted(
            0 if spec.suspend else spec.replicas, case.pod_hash(worker, blueprint), spec.rollout.surge,
            spec.rollout.wait_for_idle, spec.rollout.timeout_seconds,
        )  # fmt: skip
        case.find_drains(ours, self.telemetry.tales, now)
        planned = plan(wanted, [*ours, *_strangers(seen_pods, worker)], case.look(ours, now))
        trouble = await self._act(worker, case, blueprint, wanted, planned)
        timers = [planned.again_s] if planned.again_s is not None else []
        verdicts = {
            pod.uid: judge(pod, self.telemetry.tales.get(pod.uid), now, spec.load.stall_seconds)
            for pod in ours if not pod.deleting
        }  # fmt: skip
        await self._tell(worker, case, ours, verdicts, timers)
        settling = planned.create or self._is_listening(worker, case, ours, now)  # a new pod comes back in a moment
        if trouble is not None or not settling:
            seen = Seen(worker, wanted, ours, verdicts, self.telemetry.tales, case.failures, _verdict_of(trouble))
            await self._scribe.write(worker, case, project(seen, timestamp(), case.latest_status(worker, now)))
            await self._scribe.report(worker, case, self._told(key, case), timers)
        if trouble is not None:
            raise _for_the_queue(trouble)
        timers.extend(_looks(verdicts.values(), spec.load.stall_seconds))
        timers.extend(_searches(ours, self.telemetry.tales, now))
        return min(timers, default=None)

    def _is_listening(self, worker: Worker, case: Case, pods: Sequence[Pod], now: float) -> bool:
        """Whether relays that told an operator before us have not answered us yet: what it wrote holds meanwhile."""
        if case.status is not None or not worker.status.conditions:
            return False
        tales = (self.telemetry.tales.get(pod.uid) for pod in pods if not pod.deleting)
        return any(tale is not None and not tale.met and tale.since + UNREACHABLE_AFTER_S >= now for tale in tales)

    def _told(self, key: Key, case: Case) -> reporting.Told:
        pods = [pod for pod in self._store.pods(key) if pod.owner == case.uid]
        pods.sort(key=lambda pod: pod.ordinal)
        return [(pod, tale) for pod in pods if (tale := self.telemetry.tales.get(pod.uid))]

    # Acting

    async def _act(
        self, worker: Worker, case: Case, blueprint: Blueprint, wanted: Wanted, planned: Plan
    ) -> OperatorError | None:
        """Carry out a plan; return what only a status can tell, raise what will pass."""
        try:
            for removal in planned.delete:
                if case.may_remove(removal.pod, self._clock()):
                    await self._hands.remove(blueprint.resource, removal)
                    case.note_removal(removal.pod, self._clock())
            for removal in planned.drain:
                await self._drain(case, removal)
            await self._hands.create(blueprint, planned.create, wanted.pod_hash)
            await self._furnish(worker, case, blueprint)
            await self._guard(case, blueprint, self._store.pods(key_of(worker)))
        except (RefusedError, ForbiddenError) as exc:
            return exc
        return None

    async def _drain(self, case: Case, removal: Removal) -> None:
        pod, first = removal.pod, removal.pod.uid not in case.drains
        case.drained(pod, await self.telemetry.drain(pod), self._clock())
        if first and removal.why == OUTDATED:
            await self.telemetry.narrate(pod, outdated(pod))

    async def _furnish(self, worker: Worker, case: Case, blueprint: Blueprint) -> None:
        now = self._clock()
        if case.objects_at is None and worker.is_furnished:
            case.objects_at = (worker.generation, now - OBJECTS_S / 2)
        if case.objects_at and case.objects_at[0] == worker.generation and now - case.objects_at[1] < OBJECTS_S:
            return
        await self._hands.furnish(blueprint.resource, known=case.objects_at is not None)
        case.objects_at = (worker.generation, now)

    async def _guard(self, case: Case, blueprint: Blueprint, pods: Sequence[Pod]) -> None:
        """Protect loading pods from autoscalers, and only those, unless the template has its own word."""
        for pod in pods if not blueprint.has_own_protection else ():
            if pod.owner != case.uid or pod.deleting or pod.over:
                continue
            loads = blueprint.resource.spec.disruption.protect_load and not pod.has_served
            if pod.protected != loads and (loads or pod.ready):
                await self._hands.protect(pod, protected=loads)

    # Telling

    async def _tell(
        self, worker: Worker, case: Case, pods: Sequence[Pod], verdicts: dict[str, Verdict], timers: Timers
    ) -> None:
        """Narrate to relays what only we can see, and announce load stages."""
        for pod in pods:
            tale, verdict = self.telemetry.tales.get(pod.uid), verdicts.get(pod.uid)
            if tale is None or verdict is None or not tale.connected:
                continue
            for said in case.tellers.setdefault(pod.uid, Teller()).tell(pod, verdict, self._clock()):
                await self.telemetry.narrate(pod, said)
            if verdict.reason == "ImagePulling":
                timers.append(STILL_S)
            self._announce_stages(worker, case, pod, tale)

    def _announce_stages(self, worker: Worker, case: Case, pod: Pod, tale: Tale) -> None:
        known = case.stages.setdefault(pod.uid, set())
        for stage in tale.stages:
            said = announce_stage(pod.uid, pod.name, stage, pod.restarts)
            if said.once not in known:
                known.add(said.once)
                self._poster.post(event_body(worker, said, timestamp(), self._identity))


def _strangers(pods: Sequence[Pod], worker: Worker) -> Iterator[Pod]:
    """Yield the pods of an earlier resource of that name: they hold names until Kubernetes has collected them.

    A pod that has no owner will not be collected: that its name is taken comes out when we try to make ours.
    """
    for pod in pods:
        if pod.owner not in ("", worker.uid) and pod.name == f"{worker.name}-{pod.ordinal}":
            yield msgspec.structs.replace(pod, deleting=True)


def _verdict_of(trouble: OperatorError | None) -> Verdict | None:
    if trouble is None:
        return None
    reason = trouble.reason if trouble.reason in REASONS else "InvalidSpec"
    reason = "Forbidden" if isinstance(trouble, ForbiddenError) else reason
    return Verdict(reason, f"{trouble.message[:500].rstrip('.')}. {REASONS[reason].remedy}")


def _searches(pods: Sequence[Pod], tales: Mapping[str, Tale], now: float) -> Iterator[float]:
    """Yield when a relay that does not answer will count as unreachable."""
    for pod in pods:
        tale = tales.get(pod.uid)
        if tale is not None and tale.lost_at is not None and now - tale.lost_at <= UNREACHABLE_AFTER_S:
            yield tale.lost_at + UNREACHABLE_AFTER_S - now + 0.1


def _for_the_queue(trouble: OperatorError) -> OperatorError:
    """Nobody tells us when a name is free again, so look now and then."""
    if trouble.reason != "NameTaken":
        return trouble
    return RetryableError(trouble.message, reason=trouble.reason, status=trouble.status, retry_after_s=TAKEN_S)


def _looks(verdicts: Any, stall_s: float) -> Iterator[float]:
    """Yield when a pod must be looked at again although nothing happens."""
    for verdict in verdicts:
        if verdict.reason in ("Starting", "Loading"):
            yield min(stall_s / 4, 30.0)
        elif verdict.reason in ("ImagePulling", "RelayUnreachable", "LoadStalled"):
            yield STILL_S

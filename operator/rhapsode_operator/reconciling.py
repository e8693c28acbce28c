"""Make one resource so: observe, plan, act, tell. Called by the queue with a key; idempotent.

Writes follow one another per resource, because the queue never hands out a key twice at once. What went wrong is
told in the status first and then raised, so that the queue decides when to try again.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec

from rhapsode_contract.names import DEFAULT_ADMIN_PORT
from rhapsode_contract.records import timestamp
from rhapsode_contract.statuses import Status
from rhapsode_operator import budgeting, reporting
from rhapsode_operator.acting import Cluster, Hands, key_of
from rhapsode_operator.announcing import announce_stage, event_body
from rhapsode_operator.building import Blueprint, Images
from rhapsode_operator.cases import Case
from rhapsode_operator.errors import OperatorError
from rhapsode_operator.executing import Executor, Order, is_furnished, is_reachable
from rhapsode_operator.judging import UNREACHABLE_AFTER_S, Verdict, judge
from rhapsode_operator.narrating import STILL_S, Teller
from rhapsode_operator.observing import Pod, Worker
from rhapsode_operator.planning import Wanted, plan
from rhapsode_operator.posting import Poster
from rhapsode_operator.projecting import Seen, project
from rhapsode_operator.queueing import Key
from rhapsode_operator.speaking import Saying, Speaker
from rhapsode_operator.tales import Tale
from rhapsode_operator.telemetry import Telemetry
from rhapsode_operator.weighing import for_the_queue, verdict_on
from rhapsode_operator.writing import Scribe, StatusCluster, StatusMeter, Timers, unreadable


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
        self._executor = Executor(Hands(ports.cluster), clock)
        self._cases: dict[Key, Case] = {}
        self._scribe = Scribe(ports.cluster, ports.meter, ports.poster, identity, clock)
        self.telemetry = Telemetry(self, DEFAULT_ADMIN_PORT, clock)
        self._speaker = Speaker(self.telemetry, clock)

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
        order = Order(worker, case, blueprint, wanted.pod_hash, seen_pods, planned)
        errors = await self._executor.execute(order)
        verdicts = {
            pod.uid: judge(pod, self.telemetry.tales.get(pod.uid), now, spec.load.stall_seconds)
            for pod in ours if not pod.deleting
        }  # fmt: skip
        timers = [planned.again_s] if planned.again_s is not None else []
        said = self._tell(worker, case, ours, verdicts, timers)
        seen = Seen(worker, wanted, ours, verdicts, self.telemetry.tales, case.failures)
        settling = (planned.create and not errors) or self._is_listening(worker, case, ours, now)
        errors += await self._write(seen, order, errors, timers, settling=bool(settling))
        await self._speaker.speak(case, planned.drain, said)
        timers.extend(case.deaf_for(self._clock()))
        timers.extend(_looks(verdicts.values(), spec.load.stall_seconds))
        timers.extend(_searches(ours, self.telemetry.tales, now))
        return self._look_again(key, errors, timers)

    async def _write(
        self, seen: Seen, order: Order, errors: Sequence[OperatorError], timers: Timers, *, settling: bool
    ) -> list[OperatorError]:
        """Write the status; not while it `settles` (a new pod comes back in a moment), unless there is trouble.

        The first of a spec tells the next leader that the Services were made, so it waits for them.
        """
        now, worker, case = self._clock(), order.worker, order.case
        settling = settling or (worker.status.observed_generation != worker.generation and not is_furnished(order))
        taken = case.taken_names(worker.generation, now).values()
        timers.extend(one.until - now for one in taken)
        trouble = verdict_on([*errors, *(one.error for one in taken)])
        if trouble is None and settling:
            return []
        seen = seen._replace(trouble=trouble, reachable=is_reachable(order))
        status = project(seen, timestamp(), case.latest_status(worker, now))
        try:
            await self._write_parts(worker, case, status, timers)
        except OperatorError as exc:
            return [exc]
        return []

    async def _write_parts(self, worker: Worker, case: Case, status: Status, timers: Timers) -> None:
        """Write both parts; that of a pod that has just become ready says first that it is loaded."""
        parts = [
            partial(self._scribe.write, worker, case, status),
            partial(self._scribe.report, worker, case, self._told(key_of(worker), case), timers),
        ]
        for write in reversed(parts) if status.ready_replicas > worker.status.ready_replicas else parts:
            await write()

    def _look_again(self, key: Key, errors: Sequence[OperatorError], timers: Timers) -> float | None:
        """Return when to look again; an error is raised, and what else waits must not wait for it."""
        if not errors:
            return min(timers, default=None)
        if timers:
            self._line.add_after(key, min(timers))
        raise for_the_queue(errors)

    def _is_listening(self, worker: Worker, case: Case, pods: Sequence[Pod], now: float) -> bool:
        """Whether relays that told an operator before us have not answered us yet: what it wrote holds meanwhile.

        A pod that serves is told of by Kubernetes; of it only the memory of its GPUs is the relay's to tell.
        """
        if case.status is not None or not worker.status.conditions:
            return False
        measured = worker.status.vram is not None and bool(worker.status.vram.gpus)
        asked = [pod for pod in pods if not pod.deleting and (measured or not pod.ready)]
        tales = (self.telemetry.tales.get(pod.uid) for pod in asked)
        return any(tale is not None and not tale.met and tale.since + UNREACHABLE_AFTER_S >= now for tale in tales)

    def _told(self, key: Key, case: Case) -> reporting.Told:
        pods = [pod for pod in self._store.pods(key) if pod.owner == case.uid]
        pods.sort(key=lambda pod: pod.ordinal)
        return [(pod, tale) for pod in pods if (tale := self.telemetry.tales.get(pod.uid))]

    # Telling

    def _tell(
        self, worker: Worker, case: Case, pods: Sequence[Pod], verdicts: dict[str, Verdict], timers: Timers
    ) -> dict[str, Saying]:
        """Announce load stages, and return what relays are to hear that only we can see."""
        said: dict[str, Saying] = {}
        now = self._clock()
        for pod in pods:
            tale, verdict = self.telemetry.tales.get(pod.uid), verdicts.get(pod.uid)
            if tale is None or verdict is None or not tale.connected:
                continue
            if not case.is_deaf(pod, now):
                teller = copy(case.tellers.get(pod.uid, Teller()))  # kept when it was heard
                if words := teller.tell(pod, verdict, now):
                    said[pod.uid] = Saying(pod, words, teller)
                else:
                    case.tellers[pod.uid] = teller
            if verdict.reason == "ImagePulling":
                timers.append(STILL_S)
            self._announce_stages(worker, case, pod, tale)
        return said

    def _announce_stages(self, worker: Worker, case: Case, pod: Pod, tale: Tale) -> None:
        for stage in tale.stages:
            if case.may_announce(pod, stage):
                said = announce_stage(pod.uid, pod.name, stage, pod.restarts)
                self._poster.post(event_body(worker, said, timestamp(), self._identity))


def _strangers(pods: Sequence[Pod], worker: Worker) -> Iterator[Pod]:
    """Yield the pods of an earlier resource of that name: they hold names until Kubernetes has collected them.

    A pod that has no owner will not be collected: that its name is taken comes out when we try to make ours.
    """
    for pod in pods:
        if pod.owner not in ("", worker.uid) and pod.name == f"{worker.name}-{pod.ordinal}":
            yield msgspec.structs.replace(pod, deleting=True)


def _searches(pods: Sequence[Pod], tales: Mapping[str, Tale], now: float) -> Iterator[float]:
    """Yield when a relay that does not answer will count as unreachable."""
    for pod in pods:
        tale = tales.get(pod.uid)
        if tale is not None and tale.lost_at is not None and now - tale.lost_at <= UNREACHABLE_AFTER_S:
            yield tale.lost_at + UNREACHABLE_AFTER_S - now + 0.1


def _looks(verdicts: Any, stall_s: float) -> Iterator[float]:
    """Yield when a pod must be looked at again although nothing happens."""
    for verdict in verdicts:
        if verdict.reason in ("Starting", "Loading"):
            yield min(stall_s / 4, 30.0)
        elif verdict.reason in ("ImagePulling", "RelayUnreachable", "LoadStalled"):
            yield STILL_S

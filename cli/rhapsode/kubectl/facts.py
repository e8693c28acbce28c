"""What there is to say of one InferenceWorker, from the objects of the API server. Pure: the time is given.

Called by `explaining`; `-o json` prints these very structs.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from rhapsode.errors import CommandError
from rhapsode_contract.conditions import FAILURES, REASONS
from rhapsode_contract.statuses import Condition, GpuStatus, LoadStatus, ReplicaStatus, Status, VramStatus
from rhapsode_contract.wording import clean

JSON = Mapping[str, Any]
MAX_EVENTS = 12
MAX_MESSAGE = 1500


class Failure(msgspec.Struct, kw_only=True):
    """What is wrong. `stalled`: only a person can help."""

    reason: str
    message: str
    remedy: str
    stalled: bool


class Happening(msgspec.Struct, kw_only=True):
    """One Event, or several that said the same; `age_s` is the last one's."""

    age_s: float | None
    type: str
    reason: str
    about: str
    message: str
    count: int = 1


class Facts(msgspec.Struct, kw_only=True):
    """All of it."""

    name: str
    namespace: str
    phase: str
    ready: int
    wanted: int
    model: str
    engine: str
    endpoint: str
    age_s: float | None
    suspended: bool
    behind: str
    """Why this may not be so any more: the operator has not seen the present spec."""
    conditions: list[Condition]
    condition_ages_s: dict[str, float | None]
    failure: Failure | None
    load: LoadStatus | None
    vram: VramStatus | None
    gpus: list[GpuStatus]
    narration: str
    narration_age_s: float | None
    pods: list[ReplicaStatus]
    events: list[Happening]
    next: list[str]


def read_status(worker: JSON) -> Status:
    """Return the status of a resource, an empty one if nobody wrote any."""
    try:
        return msgspec.convert(worker.get("status") or {}, Status)
    except msgspec.ValidationError as exc:
        name = worker["metadata"]["name"]
        raise CommandError(f"the status of {name} is of another version of Rhapsode than this plugin: {exc}") from exc


def facts_of(worker: JSON, events: Sequence[JSON], now: datetime) -> Facts:
    """Return the facts, without what to do next."""
    metadata, spec, status = worker["metadata"], worker.get("spec") or {}, read_status(worker)
    engine = (spec.get("engine") or {}).get("name", "")
    said = status.narration
    return Facts(
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        phase=status.phase or "unknown",
        ready=status.ready_replicas,
        wanted=wanted(spec),
        model=clean(str((spec.get("model") or {}).get("source", ""))),
        engine=status.engine or engine,
        endpoint=status.endpoint,
        age_s=age(metadata.get("creationTimestamp"), now),
        suspended=wanted(spec) == 0,
        behind=_behind(metadata, status),
        conditions=status.conditions,
        condition_ages_s={one.type: age(one.last_transition_time, now) for one in status.conditions},
        failure=find_failure(status.conditions),
        load=status.load,
        vram=status.vram,
        gpus=status.vram.gpus if status.vram else [],
        narration=clean(said.text) if said else "",
        narration_age_s=age(said.since, now) if said else None,
        pods=status.workers,
        events=happenings(events, now),
        next=[],
    )


def wanted(spec: JSON) -> int:
    """Return how many pods a spec asks for."""
    return 0 if spec.get("suspend") else int(spec.get("replicas", 1))


def find_failure(conditions: Sequence[Condition]) -> Failure | None:
    """Return what is wrong, and what a person does about it: the stall first, else why it is not Ready."""
    by_type = {one.type: one for one in conditions}
    stalled, ready, vram = by_type.get("Stalled"), by_type.get("Ready"), by_type.get("VRAMPressure")
    if stalled is not None and stalled.status == "True":
        return _failure(stalled, stalled=True)
    if ready is not None and ready.status != "True" and ready.reason in FAILURES:
        return _failure(ready, stalled=False)
    if vram is not None and vram.status == "True":
        return _failure(vram, stalled=False)
    return None


def _failure(condition: Condition, *, stalled: bool) -> Failure:
    """Return a failure; the operator's message ends with the remedy, which is told once."""
    known = REASONS.get(condition.reason)
    remedy = known.remedy if known else ""
    message = clean(condition.message, limit=MAX_MESSAGE).removesuffix(remedy).rstrip()
    return Failure(reason=condition.reason, message=message, remedy=remedy, stalled=stalled)


def _behind(metadata: JSON, status: Status) -> str:
    generation = int(metadata.get("generation") or 0)
    if not status.observed_generation:
        return "no operator has looked at it yet"
    if status.observed_generation < generation:
        return f"what follows is about spec {status.observed_generation}; the operator has not seen {generation} yet"
    return ""


def happenings(events: Sequence[JSON], now: datetime) -> list[Happening]:
    """Return the latest Events, each once, the newest last."""
    found: dict[tuple[str, str, str], Happening] = {}
    for event in sorted(events, key=lambda event: _order(event, now)):
        made = happening(event, now)
        same = found.pop((made.about, made.reason, made.message), None)
        made.count += same.count if same else 0
        found[made.about, made.reason, made.message] = made
    return list(found.values())[-MAX_EVENTS:]


def _order(event: JSON, now: datetime) -> tuple[float, int]:
    """Return the place of an Event: many are dated to the second only, and versions grow."""
    version = str((event.get("metadata") or {}).get("resourceVersion") or "")
    return -(age(moment_of(event), now) or 0.0), int(version) if version.isdecimal() else 0


def happening(event: JSON, now: datetime) -> Happening:
    """Return one Event (core/v1), however it was written."""
    series = event.get("series") or {}
    return Happening(
        age_s=age(moment_of(event), now),
        type=str(event.get("type") or "Normal"),
        reason=clean(str(event.get("reason") or "")),
        about=str((event.get("involvedObject") or {}).get("name") or ""),
        message=clean(str(event.get("message") or "").strip(), limit=MAX_MESSAGE),
        count=int(series.get("count") or event.get("count") or 1),
    )


def moment_of(event: JSON) -> str:
    """Return when an Event happened last: three fields may say so, by who wrote it."""
    series = event.get("series") or {}
    metadata = event.get("metadata") or {}
    found = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(found or metadata.get("creationTimestamp") or "")


def age(moment: str | None, now: datetime) -> float | None:
    """Return the seconds since a moment as Kubernetes writes it, None if it is none."""
    try:
        return max(0.0, (now - datetime.fromisoformat(moment or "")).total_seconds())
    except (ValueError, TypeError):
        return None

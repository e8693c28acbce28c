"""Make Events of transitions: one for each, with a name that makes a second one impossible. Called by `reconciling`.

An Event is `Warning` only when a person must act. Its name is made of what happened and what was before, so that an
operator that starts anew, or whose write of the status is refused, says nothing twice.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from rhapsode_contract import names
from rhapsode_contract.conditions import REASONS
from rhapsode_contract.statuses import Condition, Status
from rhapsode_operator.observing import Worker

MAX_NOTE = 1024
"""Kubernetes' bound of an Event's note, in bytes."""


class Announcement(NamedTuple):
    """One Event to be."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str
    once: str
    """What makes it the same Event."""


def announce(old: Status, new: Status) -> Iterator[Announcement]:
    """Yield an announcement for each transition from one status to the next."""
    before: dict[str, Condition] = {one.type: one for one in old.conditions}
    for condition in new.conditions:
        if condition.type == "Ready":
            yield from _ready(before.get("Ready"), condition)
        if condition.type == "VRAMPressure" and condition.status == "True" and _flipped(before, condition):
            yield Announcement("Warning", condition.reason, condition.message, _since(before.get("VRAMPressure")))
    yield from _counts(old, new)


_PLAIN = {"Creating", "Scheduling", "ImagePulling", "Starting", "Scaling"}
"""Steps of a pod that Kubernetes' own Events tell already."""


def _ready(before: Condition | None, now: Condition) -> Iterator[Announcement]:
    if before is not None and (before.status, before.reason) == (now.status, now.reason):
        return
    if now.reason in _PLAIN:
        return
    warns = REASONS[now.reason].stalls
    since = f"{_since(before)}/{now.observed_generation}"
    yield Announcement("Warning" if warns else "Normal", now.reason, now.message, since)


def _since(before: Condition | None) -> str:
    """Return what a transition came after: that is the same however often it is told."""
    return f"{before.last_transition_time}/{before.reason}" if before else ""


def _flipped(before: Mapping[str, Condition], now: Condition) -> bool:
    was = before.get(now.type)
    return was is None or was.status != now.status


def _counts(old: Status, new: Status) -> Iterator[Announcement]:
    """Yield restarts of single pods: the first, second, fourth, … so that a loop does not bury the rest."""
    known = {one.pod: one for one in old.workers}
    for replica in new.workers:
        was = known.get(replica.pod)
        twofold = replica.restarts.bit_length()
        if was is not None and twofold > was.restarts.bit_length():
            why = f": {replica.last_exit.reason}, exit code {replica.last_exit.code}" if replica.last_exit else ""
            note = f"{replica.pod} restarted{why} ({replica.restarts} in all)"
            once = f"{replica.pod}/{new.observed_generation}/{replica.replaced}/{twofold}"
            yield Announcement("Normal", "Restarted", note, once)


def announce_stage(pod_uid: str, pod: str, stage: str, restarts: int) -> Announcement:
    """Return the announcement of a load stage: one for each load of each pod."""
    return Announcement("Normal", "LoadStage", f"{pod}: {stage}", f"{pod_uid}/{restarts}/{stage}")


def event_body(worker: Worker, said: Announcement, moment: str, reporter: str) -> dict[str, Any]:
    """Return the Event as Kubernetes wants it (events.k8s.io/v1)."""
    seed = f"{worker.uid}/{said.reason}/{said.once}"
    digest = hashlib.sha256(seed.encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{worker.name}.{digest}", "namespace": worker.namespace},
        "eventTime": _micro(moment),
        "reportingController": f"{names.GROUP}/operator",
        "reportingInstance": reporter[:128],
        "action": "Reconcile",
        "type": said.type,
        "reason": said.reason,
        "note": _bounded(said.note),
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": worker.name,
            "namespace": worker.namespace,
            "uid": worker.uid,
        },
    }


def _micro(moment: str) -> str:
    """Return a moment to the microsecond, which Kubernetes' MicroTime insists on."""
    return moment.removesuffix("Z") + "000Z"


def _bounded(note: str) -> str:
    return note.encode()[:MAX_NOTE].decode(errors="ignore")

"""What changed between two looks at a resource, in lines for people. Pure. Called by `following`."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rhapsode_contract.conditions import FAILURES
from rhapsode_contract.wording import clean

JSON = Mapping[str, Any]
_LONG = 1000


class Line(NamedTuple):
    """One line to show; `pod` is who says it, "" if it is nobody's."""

    level: str
    text: str
    pod: str = ""


def transitions(before: JSON, now: JSON, *, deaf: bool) -> Iterator[Line]:
    """Yield the conditions that changed; `deaf`: also what the operator tells of the pods."""
    was, status = before.get("status") or {}, now.get("status") or {}
    if not status.get("conditions") and not before:
        yield Line("warn", "no operator has looked at it yet; is rhapsode-operator running?")
    known = {one["type"]: (one["status"], one["reason"]) for one in was.get("conditions") or ()}
    ready = next((one.get("message") for one in status.get("conditions") or () if one["type"] == "Ready"), "")
    for one in status.get("conditions") or ():
        if known.get(one["type"]) != (one["status"], one["reason"]) and _is_worth(one, known):
            yield Line(_level(one), clean(_words(one, ready), limit=_LONG))
    if deaf:
        yield from _told(was, status)


def _is_worth(one: JSON, known: Mapping[str, Any]) -> bool:
    """Leave out what Ready says too, and what was never otherwise."""
    if one["type"] == "Ready":
        return True
    if one["type"] == "Reconciling":
        return False
    return bool(one["status"] == "True") or (one["status"] == "False" and known.get(one["type"], ("",))[0] == "True")


def _words(one: JSON, ready: str | None) -> str:
    if one["type"] == "Stalled" and one["status"] == "True" and one.get("message") == ready:
        return f"Stalled is True, {one['reason']}: nothing will change until a person acts"
    said = one.get("message") or one["reason"]
    return f"{one['type']} is {one['status']}, {one['reason']}: {said}"


def _level(one: JSON) -> str:
    if one["type"] == "Stalled" and one["status"] == "True":
        return "error"
    failing = one["reason"] in FAILURES or (one["type"] == "VRAMPressure" and one["status"] == "True")
    return "warn" if failing else "info"


def _told(was: JSON, status: JSON) -> Iterator[Line]:
    for part, key in (("load", "summary"), ("narration", "text")):
        said = (status.get(part) or {}).get(key)
        if said and said != (was.get(part) or {}).get(key):
            yield Line("info", clean(str(said)))

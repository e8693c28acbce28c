"""Put right what an outcome lacks or has too much of, by the rules of its contract. Pure; called by the turn.

The rules apply in their order, and again until nothing changes: an outcome that was normalized stays as it is. Only
what is below /intents is ever changed: the narrative is stored as it was streamed.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from rhapsode_contract.outcomes import NormalizeRule
from rhapsode_contract.results import Change
from rhapsode_relay.turns.pointers import MISSING, Place, bind, find, places

CHANGEABLE = "/intents/"


def normalize(outcome: dict[str, Any], rules: Sequence[NormalizeRule]) -> list[Change]:
    """Change an outcome, which is the caller's to give, and return each change."""
    changes: list[Change] = []
    for _ in range(len(rules) + 1):  # each round fills at least one more place, else it is the last
        new = [change for rule in rules for change in _apply(rule, outcome)]
        if not new:
            break
        changes += new
    return changes


def is_empty(value: Any) -> bool:
    """Whether a value is absent, null or a blank text. An empty list or object is a value."""
    return value is MISSING or value is None or (isinstance(value, str) and not value.strip())


def _apply(rule: NormalizeRule, outcome: dict[str, Any]) -> Iterator[Change]:
    if not rule.path.startswith(CHANGEABLE):
        return
    for place in list(places(outcome, rule.path)):
        if change := _change(rule, outcome, place):
            yield change


def _change(rule: NormalizeRule, outcome: dict[str, Any], place: Place) -> Change | None:
    value = place.value()
    if is_empty(_trimmed(value, rule)) and (taken := _fallback(rule, outcome, place)) is not None:
        source, found = taken
        put = _trimmed(found, rule)
        if not (isinstance(value, str) and is_empty(put)):  # one blank is as good as another
            place.put(_copied(put))
            return Change(path=place.pointer, what="fallback", source=source, **_lengths(found, put))
    trimmed = _trimmed(value, rule)
    if trimmed is value:
        return None
    place.put(trimmed)
    return Change(path=place.pointer, what="trimmed", **_lengths(value, trimmed))


def _fallback(rule: NormalizeRule, outcome: dict[str, Any], place: Place) -> tuple[str | None, Any] | None:
    """Return the value to take, and the pointer that it is from; None if there is nothing to take."""
    if rule.fallback_from is not None:
        source = bind(rule.fallback_from, place.stars)
        found = find(outcome, source)
        if not is_empty(_trimmed(found, rule)):
            return source, found
    return None if rule.fallback is None else (None, rule.fallback)


def _trimmed(value: Any, rule: NormalizeRule) -> Any:
    """Return a value, or the beginning of a text that is too long."""
    if rule.max_length is None or not isinstance(value, str) or len(value) <= rule.max_length:
        return value
    return value[: rule.max_length]


def _lengths(before: Any, after: Any) -> dict[str, Any]:
    """Return the lengths of a text that was trimmed."""
    return {} if before is after else {"from_length": len(before), "to_length": len(after)}


def _copied(value: Any) -> Any:
    """Return a value that shares nothing with the contract, or with the place that it came from."""
    return msgspec.json.decode(msgspec.json.encode(value)) if isinstance(value, dict | list) else value

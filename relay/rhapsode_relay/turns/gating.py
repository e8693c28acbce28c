"""Decide whether a sink is called: every condition of its `when` must hold. Pure; called by the turn."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rhapsode_contract.outcomes import Gate
from rhapsode_contract.wording import clean
from rhapsode_relay.turns.pointers import find


def closed(gates: Sequence[Gate], request: Mapping[str, Any], outcome: Mapping[str, Any]) -> str:
    """Return why a sink is not called, or nothing. `request` holds `policy` and `inputs`.

    The words name the place and what it must be, never what is there.
    """
    for gate in gates:
        found = find(dict(request if gate.from_ == "request" else outcome), gate.path)
        if not same(found, gate.equals):
            wanted = msgspec.json.encode(gate.equals).decode()
            return clean(f"{gate.path} of the {gate.from_} is not {wanted}", limit=300)
    return ""


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: 1 is 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)

"""Make what a sink is sent: the body, and the key under which it is written once. Pure; called by the turn."""

import hashlib
from collections.abc import Mapping
from typing import Any

from rhapsode_contract.outcomes import Sink
from rhapsode_relay.turns.pointers import MISSING, find


class NothingToWrite(ValueError):
    """The outcome has no such part, so there is nothing to write."""


def compose(sink: Sink, outcome: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sink's body: its part, or its part under a name, and the fields that the inputs have.

    Raises NothingToWrite. What is in the part comes before a field of the same name.
    """
    part = find(dict(outcome), sink.part)
    if part is MISSING or part is None:
        raise NothingToWrite(f"the outcome has no {sink.part}")
    if sink.as_ is None and not isinstance(part, dict):
        raise NothingToWrite(f"{sink.part} is no object")
    found = {key: find(dict(inputs), pointer) for key, pointer in sink.fields.items()}
    fields = {key: value for key, value in found.items() if value is not MISSING}
    return {**fields, **(part if sink.as_ is None else {sink.as_: part})}


def call_key(given: str, contract: str, sink: str) -> str:
    """Return the key of one sink of one turn; `given` is the client's own, else the turn's id."""
    text = "\n".join((given, contract, sink))
    return hashlib.sha256(text.encode()).hexdigest()[:32]

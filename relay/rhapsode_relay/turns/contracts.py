"""The contracts that a relay serves, compiled once; and what is wrong with them, which only a program can tell. Pure.

Called when the relay starts: `check_contracts` first, then `compile_contracts`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rhapsode_contract.outcomes import NormalizeRule, Outcome, Sink
from rhapsode_relay.turns.checking import ENDLESS, Checker, schema_problem
from rhapsode_relay.turns.pointers import MISSING, find, split
from rhapsode_relay.turns.rendering import Prompts, prompt_problems
from rhapsode_relay.turns.schemas import (
    SHARED,
    Schema,
    at_place,
    intents_schema,
    references,
    shared_part,
    spell,
    subschemas,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Problem = tuple[str, str]
"""A path below the contract, such as `.sinks[0].part`, and what is wrong there."""


class Contract(NamedTuple):
    """One contract, ready to be used by turns."""

    outcome: Outcome
    checker: Checker
    prompts: Prompts
    intents_schema: Schema


def compile_contracts(outcomes: Sequence[Outcome]) -> dict[str, Contract]:
    """Return contracts by name. They have no problems."""
    return {
        outcome.name: Contract(
            outcome, Checker(outcome.schema), Prompts(outcome.prompt), intents_schema(outcome.schema)
        )
        for outcome in outcomes
    }


def check_contracts(outcomes: Sequence[Outcome]) -> list[str]:
    """Return everything that is wrong with contracts that the API server let in: each with its path."""
    return [
        f"spec.outcomes[{index}]{path}: {why}"
        for index, outcome in enumerate(outcomes)
        for path, why in _problems(outcome)
    ]


def _problems(outcome: Outcome) -> Iterator[Problem]:
    schema = list(_schema_problems(outcome.schema))
    yield from schema
    yield from (
        (f".{field}", why) for field, why in prompt_problems(outcome.prompt, [s.name for s in outcome.context])
    )
    yield from _overlaps(outcome.normalize)
    if schema:
        return  # what is said of places needs a schema
    if ENDLESS in Checker(outcome.schema).problems({"narrative": "", "intents": {}}):
        yield ".schema", ENDLESS
    for index, rule in enumerate(outcome.normalize):
        yield from ((f".normalize[{index}]{path}", why) for path, why in _rule_problems(rule, outcome.schema))
    for index, sink in enumerate(outcome.sinks):
        yield from ((f".sinks[{index}]{path}", why) for path, why in _sink_problems(sink, outcome.schema))


def _schema_problems(schema: Schema) -> Iterator[Problem]:
    if (found := schema_problem(schema)) is not None:
        yield f".schema{spell(split(found[0]))}", found[1]
        return
    try:
        yield from _reference_problems(schema)
    except ValueError as exc:
        yield ".schema", str(exc)
        return
    if schema.get("$schema", DIALECT) != DIALECT:
        yield ".schema.$schema", f"expected {DIALECT}"
    intents = find(schema, "/properties/intents")
    if not isinstance(intents, dict):
        yield ".schema.properties.intents", "required: the schema of the intents, an object"
    for name, kind in (("intents", "object"), ("narrative", "string")):
        here = at_place(schema, [name])
        if isinstance(here, dict) and here.get("type", kind) != kind:
            yield f".schema.properties.{name}.type", f"expected {kind}"


def _reference_problems(schema: Schema) -> Iterator[Problem]:
    for path, part in subschemas(schema):
        if path and "$id" in part:
            yield f".schema{spell(path)}.$id", "only the whole schema can have an id"
    for steps, target in references(schema):
        where = f".schema{spell(steps)}"
        if not target.startswith("#"):
            yield where, f"refers to {target[:100]}, outside of the schema; put it into $defs"
        elif target.startswith("#/") and find(schema, target[1:]) is MISSING:
            yield where, f"refers to {target[:100]}, which is not there"
        elif not target.startswith(tuple(f"#/{shared}/" for shared in SHARED)):
            yield where, f"refers to {target[:100]}; the intents stand alone, so refer to #/$defs/NAME"


def _overlaps(rules: Sequence[NormalizeRule]) -> Iterator[Problem]:
    """Two rules for one value could undo each other."""
    seen: list[tuple[str, ...]] = []
    for index, rule in enumerate(rules):
        steps = split(rule.path)
        if any(_meet(steps, other) for other in seen):
            yield f".normalize[{index}].path", f"{rule.path} has a rule already"
        seen.append(steps)


def _meet(one: Sequence[str], other: Sequence[str]) -> bool:
    return len(one) == len(other) and all(a == b or "*" in (a, b) for a, b in zip(one, other, strict=True))


def _rule_problems(rule: NormalizeRule, schema: Schema) -> Iterator[Problem]:
    here = at_place(schema, split(rule.path))
    if here is False:
        yield ".path", f"the schema has no {rule.path}"
    if rule.fallback_from is not None and at_place(schema, split(rule.fallback_from)) is False:
        yield ".fallbackFrom", f"the schema has no {rule.fallback_from}"
    if rule.fallback is None or not isinstance(here, dict):
        return
    value: Any = rule.fallback
    if rule.max_length is not None and isinstance(value, str):
        value = value[: rule.max_length]
    for why in Checker(shared_part(schema) | here, "it").problems(value)[:1]:
        yield ".fallback", f"does not fit {rule.path}: {why}"


def _sink_problems(sink: Sink, schema: Schema) -> Iterator[Problem]:
    here = at_place(schema, split(sink.part))
    if here is False:
        yield ".part", f"the schema has no {sink.part}"
    elif isinstance(here, dict) and sink.as_ is None and here.get("type", "object") != "object":
        yield ".part", f"{sink.part} is no object; name the field that it becomes in as"
    for index, gate in enumerate(sink.when):
        if gate.from_ == "outcome" and at_place(schema, split(gate.path)) is False:
            yield f".when[{index}].path", f"the schema has no {gate.path}"

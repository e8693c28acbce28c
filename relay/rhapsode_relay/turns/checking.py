"""Judge an outcome by the JSON Schema of its contract, in words with path and rule. Pure; called by the turn.

A schema is compiled once and fetches nothing. What is judged comes from a model, so its depth, its size and how
many problems are told are bounded, and no problem quotes it. The patterns are the platform team's: one that takes
for ever takes the relay with it.
"""

from collections.abc import Iterator, Mapping, Sized
from itertools import islice
from typing import Any

import msgspec
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import SchemaError
from jsonschema.validators import extend
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

from rhapsode_contract.wording import clean
from rhapsode_relay.turns.pointers import join
from rhapsode_relay.turns.schemas import subschemas

MAX_DEPTH = 48
"""Deepest nesting of what a model wrote; the validator calls itself for each level."""
MAX_VALUES = 20_000
MAX_BYTES = 256 * 1024
MAX_PROBLEMS = 8
_MAX_WORDS = 240
ENDLESS = "the schema refers to itself without end"


class Unreadable(ValueError):
    """What should be the intents is not JSON, or more than we judge."""


def read_intents(text: str) -> dict[str, Any]:
    """Return the intents that a model wrote. Raises Unreadable, in words that do not quote it."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise Unreadable(f"the intents are longer than {MAX_BYTES} bytes")
    try:
        intents = msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise Unreadable(f"the intents are not JSON: {clean(str(exc), limit=200)}") from None
    except (RecursionError, UnicodeError):
        raise Unreadable("the intents are not JSON that we can read") from None
    if not isinstance(intents, dict):
        raise Unreadable("the intents are not an object")
    if not _is_bounded(intents):
        raise Unreadable(f"the intents nest deeper than {MAX_DEPTH} levels, or have more than {MAX_VALUES} values")
    return intents


class Checker:
    """The schema of one contract, compiled. Raises ValueError for one that is none."""

    def __init__(self, schema: Mapping[str, Any], whole: str = "the outcome") -> None:
        self._validator = _Validator(dict(schema), registry=EMPTY_REGISTRY)
        self._whole = whole
        declared = (part.get("properties") for _, part in subschemas(dict(schema)))
        self._names = {name for names in declared if isinstance(names, dict) for name in names}

    def problems(self, instance: Any) -> list[str]:
        """Return what is wrong with an outcome: each with its place, its rule and no word of the outcome."""
        try:
            found = [self._words(error) for error in islice(self._validator.iter_errors(instance), MAX_PROBLEMS + 1)]
        except RecursionError:
            return [ENDLESS]
        except Unresolvable as exc:
            return [clean(f"the schema refers to what is not there: {exc.ref}", limit=_MAX_WORDS)]
        if len(found) > MAX_PROBLEMS:
            found[MAX_PROBLEMS:] = ["and more"]
        return found

    def _words(self, error: ValidationError) -> str:
        rule = "" if str(error.validator) == "None" else f" ({error.validator})"
        place = clean(join([self._step(step) for step in error.absolute_path]), limit=120) or self._whole
        return clean(f"{place} {_broken(error)}{rule}", limit=_MAX_WORDS)

    def _step(self, step: str | int) -> str:
        """Return a step of a place: a key that the schema does not name is a word of the model."""
        return str(step) if isinstance(step, int) or step in self._names else "*"


def schema_problem(schema: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what makes a schema none: its place in the schema, and why; None if nothing does."""
    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as exc:
        return join([str(step) for step in exc.absolute_path]), clean(exc.message, limit=_MAX_WORDS)
    except RecursionError:
        return "", "is nested too deeply"
    return None


def _unique(_: Any, wanted: Any, items: Any, __: Any) -> Iterator[ValidationError]:
    """`uniqueItems`, in time that grows with the number of items and not with its square."""
    if not wanted or not isinstance(items, list):
        return
    if len({msgspec.json.encode(item, order="deterministic") for item in items}) < len(items):
        yield ValidationError("has an item twice")


_Validator: Any = extend(Draft202012Validator, {"uniqueItems": _unique})  # type: ignore[no-untyped-call]


def _broken(error: ValidationError) -> str:
    """Return how a rule is broken, without what is there."""
    rule = str(error.validator)
    instance: Any = error.instance
    value: Any = error.validator_value
    words = _WORDS.get(rule, "breaks its schema")
    size = len(instance) if isinstance(instance, Sized) else 0
    lacks = ", ".join(name for name in value if name not in instance) if rule == "required" else ""
    return words.format(value=_shown(value), size=size, kind=_kind(instance), lacks=lacks)


_WORDS = {
    "required": "lacks {lacks}",
    "type": "must be of type {value}, is {kind}",
    "enum": "must be one of {value}",
    "const": "must be {value}",
    "pattern": "must match {value}",
    "maxLength": "has {size} characters, at most {value}",
    "minLength": "has {size} characters, at least {value}",
    "maxItems": "has {size} items, at most {value}",
    "minItems": "has {size} items, at least {value}",
    "maximum": "must be at most {value}",
    "minimum": "must be at least {value}",
    "uniqueItems": "has an item twice",
    "additionalProperties": "has a field that is not declared",
    "unevaluatedProperties": "has a field that is not declared",
    "anyOf": "fits none of the forms",
    "oneOf": "fits none of the forms, or several",
    "None": "has what may not be there",
}
"""Rule of a schema → how an outcome breaks it. What is not here breaks its schema."""


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 100 else text[:99] + "…"


def _kind(instance: Any) -> str:
    if instance is None:
        return "null"
    kinds = {bool: "boolean", str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return kinds.get(type(instance), type(instance).__name__)


def _is_bounded(root: Any) -> bool:
    """Look level by level, so that nothing that is too deep is followed to its end."""
    level, seen = [root], 0
    for _ in range(MAX_DEPTH):
        seen += len(level)
        if not level or seen > MAX_VALUES:
            break
        level = [part for value in level if isinstance(value, dict | list) for part in _parts(value)]
    return not level and seen <= MAX_VALUES


def _parts(value: dict[str, Any] | list[Any]) -> Any:
    return value.values() if isinstance(value, dict) else value

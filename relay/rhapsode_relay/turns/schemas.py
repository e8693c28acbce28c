"""Look into a JSON Schema: what it refers to, what it says of a place, the part for the intents. Pure; for `turns`.

Only what can be told without trying every alternative is told: None means that we cannot know.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from rhapsode_relay.turns.pointers import MISSING, find

Schema = dict[str, Any]

SHARED = ("$defs", "definitions")
"""What the schema of the intents takes along when it stands alone."""
_NAMED = {"properties", "patternProperties", "dependentSchemas", *SHARED}
"""Keywords whose keys are names, not keywords."""
_VALUES = {"const", "enum", "default", "examples"}
"""Keywords that hold JSON, not schemas."""
_CHOICES = ("allOf", "anyOf", "oneOf", "if", "then", "else", "not", "$dynamicRef", "dependentSchemas")
_DEEPEST = 64


def subschemas(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """Yield every object in a schema that may be a schema, with its path. Raises ValueError beyond 64 levels."""
    if len(path) > _DEEPEST:
        raise ValueError(f"is nested deeper than {_DEEPEST} levels")
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from subschemas(item, (*path, str(index)))
    elif isinstance(schema, dict):
        yield path, schema
        for key, part in schema.items():
            if key in _NAMED and isinstance(part, dict):
                for name, named in part.items():
                    yield from subschemas(named, (*path, key, name))
            elif key not in _VALUES:
                yield from subschemas(part, (*path, key))


def references(schema: Schema) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each reference with the path of the keyword that has it."""
    for path, part in subschemas(schema):
        for key in ("$ref", "$dynamicRef"):
            if isinstance(part.get(key), str):
                yield (*path, key), part[key]


def intents_schema(schema: Schema) -> Schema:
    """Return the schema of the intents alone, with what it may refer to."""
    intents: Schema = schema["properties"]["intents"]
    if set(intents) == {"$ref"} and isinstance(found := find(schema, intents["$ref"].removeprefix("#")), dict):
        intents = found
    return shared_part(schema) | intents


def shared_part(schema: Schema) -> Schema:
    """Return what parts of a schema refer to."""
    return {key: schema[key] for key in SHARED if key in schema}


def at_place(schema: Schema, steps: Sequence[str]) -> Schema | bool | None:
    """Return what a schema says of a place in an instance; False if nothing can be there, None if we cannot tell."""
    here: Any = schema
    for step in steps:
        here = _resolved(schema, here)
        if not isinstance(here, dict) or any(key in here for key in _CHOICES):
            return here if here is False else None
        here = _within(here, step)
        if here is None or here is False:
            return here
    return _resolved(schema, here)  # type: ignore[no-any-return]


def _within(here: Schema, step: str) -> Any:
    kind = here.get("type", "array" if "items" in here else "object" if "properties" in here else None)
    if kind == "array" and "prefixItems" not in here:
        return here.get("items") if step == "*" or step.isdecimal() else False
    if kind != "object" or step == "*":
        return False if isinstance(kind, str) and kind != "array" else None
    if "properties" not in here or "patternProperties" in here:
        return None
    more = here.get("additionalProperties", False)  # what is not declared is not generated, so it is a typing error
    return here["properties"].get(step, None if more is True else more)


def _resolved(root: Schema, here: Any) -> Any:
    """Follow references. What refers and says more besides is beyond us."""
    for _ in range(_DEEPEST):
        if not isinstance(here, dict) or "$ref" not in here:
            return here
        if set(here) - {"$ref", "description", "title"}:
            return None
        target = here["$ref"]
        found = find(root, target.removeprefix("#")) if target == "#" or target.startswith("#/") else None
        here = None if found is MISSING else found
    return None


def spell(steps: Sequence[str]) -> str:
    """Return a path in a manifest as people write it."""
    return "".join(f"[{step}]" if step.isdecimal() else f".{step}" for step in steps)

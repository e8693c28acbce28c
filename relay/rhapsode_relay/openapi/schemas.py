"""JSON schemas of our types, as components that refer to each other. Called by `documenting`. Pure."""

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from rhapsode_relay.openapi.operations import Schema, Stream

_PREFIX = "rhapsode_contract."
_REFERENCE = "#/components/schemas/{name}"
_GIVEN: Schema = {"not": {"type": "null"}}
_EXCLUSIVE = {"InferenceRequest": ("prompt", "messages"), "TicketRequest": ("job_id", "correlation_id")}
"""Fields of which exactly one is given, by component: types cannot say it."""


def components_of(types: Sequence[Any], streams: Sequence[Stream]) -> tuple[list[Schema], dict[str, Schema]]:
    """Return a schema for each type, and the components that they and the streams refer to."""
    wanted = [*types, *(one for stream in streams for one in stream.events)]
    found, parts = msgspec.json.schema_components(wanted, ref_template=_REFERENCE)
    schemas = [_tidy(schema) for schema in found]
    components = {_short(name): _tidy(schema) | _one_of(_short(name)) for name, schema in parts.items()}
    told = iter(schemas[len(types) :])
    for stream in streams:
        kinds = [next(told) for _ in stream.events]
        components |= _streamed(stream, kinds[0] if len(kinds) == 1 else {"anyOf": kinds})
    return schemas[: len(types)], dict(sorted(components.items()))


def refer(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": _REFERENCE.format(name=name)}


def event_name(stream: Stream) -> str:
    """Return the component of one event with its `id:`, `event:` and `data:` lines."""
    return f"{stream.name}Line"


def message_name(stream: Stream) -> str:
    """Return the component of one event as a WebSocket's message."""
    return f"{stream.name}Message"


def _one_of(name: str) -> Schema:
    fields = _EXCLUSIVE.get(name, ())
    choices = [
        {"required": [given], "properties": {one: _GIVEN if one == given else {"type": "null"} for one in fields}}
        for given in fields
    ]
    return {"oneOf": choices} if choices else {}


def _streamed(stream: Stream, union: Schema) -> dict[str, Schema]:
    return {
        stream.name: {"title": stream.name, "description": f"What an event of a {stream.name} stream holds."} | union,
        event_name(stream): _line(stream, union),
        message_name(stream): {
            "title": message_name(stream),
            "description": "The same event as a message of a WebSocket.",
            "type": "object",
            "properties": {"event": {"type": "string"}, "id": {"type": "string"}, "data": refer(stream.name)},
            "required": ["event", "id", "data"],
        },
    }


def _line(stream: Stream, union: Schema) -> Schema:
    """Describe one event as OpenAPI 3.2's `itemSchema` does, which 3.1 has no word for."""
    names = sorted(union.get("discriminator", {}).get("mapping", {}))
    data: Schema = {"type": "string", "contentMediaType": "application/json", "contentSchema": refer(stream.name)}
    if stream.last_words:
        data = {"anyOf": [{"const": stream.last_words}, data]}
    properties: Schema = {"data": data}
    if stream.has_ids:
        properties["id"] = {"type": "string", "description": "Send the last one back to go on after it."}
    if stream.is_named:
        properties["event"] = {"type": "string", "enum": names} if names else {"type": "string"}
    line: Schema = {
        "title": event_name(stream),
        "description": "One event of the stream, as its lines say it.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }
    return line if stream.has_ids else line | {"not": {"required": ["id"]}}


def _tidy(schema: Any) -> Any:
    """Return a schema without what only Python's layout put there: indented docstrings, our module names."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if isinstance(schema, str):
        return schema.replace(f"/{_PREFIX}", "/") if schema.startswith("#/components/") else schema
    if not isinstance(schema, dict):
        return schema
    tidy = {key: _tidy(value) for key, value in schema.items()}
    if isinstance(words := tidy.get("description"), str):
        tidy["description"] = inspect.cleandoc(words)
    if isinstance(title := tidy.get("title"), str):
        tidy["title"] = _short(title)
    return tidy


def _short(name: str) -> str:
    """Return a component's name; msgspec says the module too where two types are called the same."""
    return name.removeprefix(_PREFIX)

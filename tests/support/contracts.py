"""A contract of two-phase turns with everything in it, and contracts that are wrong in one place each."""

import copy
import json
from typing import Any

from support.manifests import GOOD

JSON = dict[str, Any]
PLACE: JSON = {
    "type": "object",
    "required": ["name", "action"],
    "properties": {
        "action": {"enum": ["create", "none"]},
        "name": {"type": ["string", "null"]},
        "description": {"type": ["string", "null"]},
        "location": {"type": "string"},
        "tags": {"type": ["array", "null"], "items": {"type": "string"}},
    },
}
SECRET: JSON = {"header": "X-Api-Key", "secretRef": {"name": "journal", "key": "key"}}
CONTRACT: JSON = {
    "name": "dungeon-master",
    "schema": {
        "type": "object",
        "required": ["narrative", "intents"],
        "properties": {
            "narrative": {"type": "string", "minLength": 1},
            "intents": {
                "type": "object",
                "properties": {
                    "poi": {"$ref": "#/$defs/place"},
                    "pois": {"type": "array", "items": {"$ref": "#/$defs/place"}},
                    "mood": {"const": None},
                },
            },
        },
        "$defs": {"place": PLACE},
    },
    "prompt": {
        "system": "You lead {{ inputs.who }} through a dungeon.",
        "narrative": "{% for spark in context.sparks %}- {{ spark.name }}\n{% endfor %}{{ inputs.action }}",
        "intents": "Say as JSON what came of these {{ narrative|length }} characters.",
    },
    "generation": {"narrativeTokens": 64},
    "normalize": [
        {
            "path": "/intents/poi/name", "fallbackFrom": "/intents/poi/location", "fallback": "A Notable Location",
            "maxLength": 200,
        },
        {"path": "/intents/poi/description", "fallback": "", "maxLength": 2000},
        {"path": "/intents/poi/tags", "fallback": []},
        {"path": "/intents/pois/*/name", "fallbackFrom": "/intents/pois/*/location", "maxLength": 20},
    ],
    "context": [
        {"name": "sparks", "url": "http://journal:8000/pois/random", "items": "/pois", "secretHeader": SECRET}
    ],
    "sinks": [
        {
            "name": "poi", "url": "http://journal:8000/pois", "part": "/intents/poi",
            "fields": {"campaign": "/campaign", "who": "/party/0/name"},
            "when": [
                {"from": "request", "path": "/policy/memory", "equals": True},
                {"from": "outcome", "path": "/intents/poi/action", "equals": "create"},
            ],
            "secretHeader": SECRET,
        },
        {"name": "narrative", "url": "https://[::1]:8/n?x=1", "part": "/narrative", "as": "text", "required": True},
        {"name": "whole", "url": "http://journal:8000/whole", "method": "PUT"},
    ],
    "limits": {"turnSeconds": 60},
}  # fmt: skip

_URL = "an http:// or https:// URL without user, password or fragment"
_POINTER = "a JSON pointer such as /inputs/campaign, without '*'"
_NARRATIVE = "expected a place below /intents; the narrative is stored as it was streamed"
_OURS = "the relay sets this header itself; choose another, such as Authorization"

BAD_CONTRACTS: list[tuple[str, Any, str]] = [
    ("name", ..., ".name: required"),
    ("name", "Dungeon", ".name: expected lower-case letters, digits and '-', at most 63"),
    ("name", "a" * 64, ".name: expected lower-case letters, digits and '-', at most 63"),
    ("schema", ..., ".schema: required"),
    ("schema", "string", ".schema: must be of type object"),
    ("prompt", ..., ".prompt: required"),
    ("prompt.intents", ..., ".prompt.intents: required"),
    ("prompt.narrative", "x" * 16385, ".prompt.narrative: expected a template of at most 16384 characters"),
    ("prompt.user", "x", ".prompt.user: unknown field"),
    ("generation.narrativeTokens", 0, ".generation.narrativeTokens: expected 1..65536"),
    ("normalize.0.path", "intents/x", ".normalize[0].path: expected a JSON pointer such as /intents/pois/*/name"),
    ("normalize.0.path", "/intents/~2", ".normalize[0].path: expected a JSON pointer"),
    ("normalize.0.path", "/intents/a*", ".normalize[0].path: expected a JSON pointer"),
    ("normalize.0.path", "/narrative", f".normalize[0].path: {_NARRATIVE}"),
    ("normalize.1.path", "/intents", f".normalize[1].path: {_NARRATIVE}"),
    ("normalize.0.fallbackFrom", "location", ".normalize[0].fallbackFrom: expected a JSON pointer"),
    (
        "normalize.0.fallbackFrom",
        "/intents/pois/*/name",
        ".normalize[0]: a '*' in fallbackFrom is the item that path",
    ),
    ("normalize.0.maxLength", 0, ".normalize[0].maxLength: expected 1..1000000"),
    ("normalize", [{"path": f"/intents/{n}"} for n in range(65)], ".normalize: must have at most 64 items"),
    ("context.0.name", "My-Sparks", ".context[0].name: expected lower-case letters, digits and '_'"),
    ("context.0.url", "ftp://journal/x", f".context[0].url: expected {_URL}"),
    ("context.0.url", "http://{{ inputs.host }}/", f".context[0].url: expected {_URL}"),
    ("context.0.method", "PUT", ".context[0].method: expected one of GET, POST"),
    ("context.0.timeoutSeconds", 61, ".context[0].timeoutSeconds: expected 1..60"),
    ("context.0.items", "pois", ".context[0].items: expected a JSON pointer such as /intents, or nothing for all"),
    ("context.0.countParameter", "a b", ".context[0].countParameter: expected letters, digits"),
    ("context.1", {"name": "sparks", "url": "http://x"}, ".context: expected context sources with different names"),
    ("context.0.secretHeader.header", "Content-Type", f".context[0].secretHeader.header: {_OURS}"),
    ("sinks.0.name", "a b", ".sinks[0].name: expected lower-case letters"),
    ("sinks.0.url", "http://user:secret@journal/x", f".sinks[0].url: expected {_URL}"),
    ("sinks.0.url", "http://journal\\@evil/x", f".sinks[0].url: expected {_URL}"),
    ("sinks.0.url", "journal:8000", f".sinks[0].url: expected {_URL}"),
    ("sinks.0.url", "http://journal/\r\nHost: x", f".sinks[0].url: expected {_URL}"),
    ("sinks.0.method", "DELETE", ".sinks[0].method: expected one of PATCH, POST, PUT"),
    ("sinks.0.part", "/intents/*", ".sinks[0].part: expected a JSON pointer"),
    ("sinks.1.as", "a b", ".sinks[1].as: expected a field name such as narrative"),
    ("sinks.0.as", "campaign", ".sinks[0]: as and fields name the same field"),
    ("sinks.0.fields", {"x": "campaign"}, f".sinks[0].fields.x: expected {_POINTER}"),
    ("sinks.0.fields", {f"f{n}": "/a" for n in range(17)}, ".sinks[0].fields: must have at most 16 items"),
    ("sinks.0.when.0.from", "client", ".sinks[0].when[0].from: expected one of outcome, request"),
    ("sinks.0.when.0.path", "/memory", ".sinks[0].when[0]: a path into the request begins with /policy/ or /inputs/"),
    ("sinks.0.when.0.equals", ..., ".sinks[0].when[0].equals: required"),
    ("sinks.0.when.0.is", True, ".sinks[0].when[0].is: unknown field"),
    ("sinks.0.secretHeader.header", "X-Rhapsode-Turn", f".sinks[0].secretHeader.header: {_OURS}"),
    ("sinks.0.secretHeader.header", "a:b", ".sinks[0].secretHeader.header: expected a header's name"),
    ("sinks.0.secretHeader.prefix", "Bearer\n", ".sinks[0].secretHeader.prefix: expected printable ASCII"),
    ("sinks.0.secretHeader.secretRef", ..., ".sinks[0].secretHeader.secretRef: required"),
    ("sinks.0.secretHeader.secretRef.name", "../x", ".sinks[0].secretHeader.secretRef.name: expected a Kubernetes"),
    ("sinks.2.name", "poi", ".sinks: expected sinks with different names"),
    ("sinks.0.retries", 3, ".sinks[0].retries: unknown field"),
    ("limits.turnSeconds", 0, ".limits.turnSeconds: expected 1..86400"),
    ("limits.narrativeBytes", 2**21, ".limits.narrativeBytes: expected 1024..1048576"),
]


def contract(path: str = "", value: Any = None) -> JSON:
    """Return the contract with a value at a dotted path, or without it."""
    made: JSON = json.loads(json.dumps(CONTRACT))  # shares no part with itself
    if not path:
        return made
    *parents, last = path.split(".")
    place: Any = made
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
    if value is ...:
        del place[last]
    elif isinstance(place, list):
        place.insert(int(last), value)
    else:
        place[last] = value
    return made


def serving(*contracts: JSON) -> JSON:
    """Return a manifest with these contracts."""
    manifest = copy.deepcopy(GOOD)
    manifest["spec"]["outcomes"] = list(contracts)
    return manifest

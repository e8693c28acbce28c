"""Make the CustomResourceDefinition from the types. Called by `make generate`. Pure.

Bounds become CEL rules with the words that `validating` says, not OpenAPI bounds, whose words nobody chose: a
manifest is refused with the same words by the API server and by `rhapsode play`. Types, required and unknown fields
are the API server's own.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from rhapsode_contract import names
from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.rules import RULES, Rule
from rhapsode_contract.validating import rule_words

Schema = dict[str, Any]

_LONGEST_TEXT = 2048
"""Bound of a text whose rule has none: the API server wants to know what a rule can cost."""
_MOST_ENTRIES = 16
"""Bound of every mapping whose values have a rule, for the same reason."""
COLUMNS: tuple[tuple[str, str, str, int], ...] = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Phase", "string", ".status.phase", 0),
    ("Load", "string", ".status.load.summary", 0),
    ("VRAM", "string", ".status.vram.summary", 0),
    ("Model", "string", ".spec.model.source", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Engine", "string", ".status.engine", 1),
    ("Node", "string", ".status.nodes", 1),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 1),
    ("Endpoint", "string", ".status.endpoint", 1),
    ("Narration", "string", ".status.narration.text", 1),
)
"""Name, type, JSONPath and priority of the columns of `kubectl get`; priority 1 is `-o wide`."""
_MAP_KEYS = {"status.conditions": "type", "status.workers": "pod"}
"""Lists whose items are owned one by one; any other list has one owner."""


def custom_resource_definition() -> Schema:
    """Return the CRD as Kubernetes reads it."""
    plural = names.PLURAL
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "plural": plural,
                "singular": names.KIND.lower(),
                "shortNames": ["iw"],
                "categories": ["ml"],
            },
            "versions": [_version()],
        },
    }


def _version() -> Schema:
    return {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root_schema()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})
            for name, kind, path, priority in COLUMNS
        ],
    }


def root_schema() -> Schema:
    """Return the schema of a whole resource."""
    info = inspect.type_info(InferenceWorker)
    assert isinstance(info, inspect.StructType)
    schema = _struct(info, "")
    metadata = next(field for field in info.fields if field.name == "metadata").type
    assert isinstance(metadata, inspect.StructType)
    name_field = metadata.fields[0].type
    schema["description"] = "One model, served by one kind of worker behind one kind of relay, on Kubernetes."
    schema["properties"] = {
        "apiVersion": {"type": "string", "description": f"Always {names.API_VERSION}."},
        "kind": {"type": "string", "description": f"Always {names.KIND}."},
        "metadata": {"type": "object"},
        "spec": schema["properties"]["spec"],
        "status": schema["properties"]["status"],
    }
    schema["required"] = ["spec"]
    rule = _schema(name_field, "metadata.name")["x-kubernetes-validations"][0]
    cel = rule["rule"].replace("self.", "self.metadata.name.")
    schema["x-kubernetes-validations"] = [{"rule": cel, "message": f"metadata.name: {rule['message']}"}]
    return schema


def _struct(info: inspect.StructType, path: str) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": {field.encode_name: _field(field, path) for field in info.fields},
    }
    if required := [field.encode_name for field in info.fields if field.required]:
        schema["required"] = required
    return schema


def _field(field: inspect.Field, parent: str) -> Schema:
    path = f"{parent}.{field.encode_name}" if parent else field.encode_name
    schema = _ruled(_schema(field.type, path), path)
    if path.startswith("spec") and (default := _default(field)) is not None:
        schema["default"] = default
        if (
            "description" in schema and default != "" and not isinstance(default, dict)
        ):  # `kubectl explain` shows no default by itself
            schema["description"] += f" Default: {json.dumps(default).strip(chr(34))}."
    return schema


def _ruled(schema: Schema, path: str) -> Schema:
    if rules := [_cel(rule) for rule in RULES if rule.path == path]:
        schema.setdefault("x-kubernetes-validations", []).extend(rules)
    return schema


def _cel(rule: Rule) -> Schema:
    return {"rule": rule.cel, "message": rule.message}


def _default(field: inspect.Field) -> Any:
    """Return the default that the API server fills in, or None. Of a struct only what its own fields do not say."""
    if field.default is not msgspec.NODEFAULT:
        value = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        return None
    if isinstance(value, msgspec.Struct):
        return {} if value == type(value)() else _lean(msgspec.to_builtins(value))
    if value == []:
        return None
    return msgspec.to_builtins(value)


def _lean(value: Any) -> Any:
    """Leave out what is empty."""
    if not isinstance(value, dict):
        return value
    return {key: _lean(part) for key, part in value.items() if part not in (None, {}, [])}


def _schema(info: inspect.Type, path: str) -> Schema:
    bare = unwrap(info)
    schema = _bare(bare.info, path)
    bounds = rule_words(bare.info, bare.rule)
    ruled = path.startswith(("spec", "metadata"))
    if bare.description:
        schema["description"] = f"{bare.description} Bounds: {bounds}." if bounds and ruled else bare.description
    if ruled and (cel := _bounds(bare.info)):
        schema["x-kubernetes-validations"] = [{"rule": cel, "message": f"expected {bounds}"}]
    if bare.optional and ruled:
        schema["nullable"] = True
    return schema


class Bare(NamedTuple):
    """A type without what is wrapped around it."""

    info: inspect.Type
    description: str
    rule: str
    optional: bool


def unwrap(info: inspect.Type) -> Bare:
    """Return a type without its metadata and without its None."""
    description, rule, optional = "", "", False
    while True:
        if isinstance(info, inspect.Metadata):
            description = (info.extra_json_schema or {}).get("description", "") or description
            rule = (info.extra or {}).get("rule", "") or rule
            info = info.type
        elif isinstance(info, inspect.UnionType) and info.includes_none and len(info.types) == 2:
            optional = True
            info = next(one for one in info.types if not isinstance(one, inspect.NoneType))
        else:
            return Bare(info, description, rule, optional)


def _bare(info: inspect.Type, path: str) -> Schema:
    match info:
        case inspect.StructType():
            return _struct(info, path)
        case inspect.AnyType():
            return {"x-kubernetes-preserve-unknown-fields": True}
        case inspect.ListType():
            return _list(info, path)
        case inspect.DictType(value_type=inspect.AnyType()):
            return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        case inspect.DictType():
            values = _schema(info.value_type, f"{path}.*")
            bound = (
                {"maxProperties": info.max_length or _MOST_ENTRIES} if "x-kubernetes-validations" in values else {}
            )
            return {"type": "object", "additionalProperties": values} | bound
        case _:
            return _scalar(info, path)


def _list(info: inspect.ListType, path: str) -> Schema:
    items = _ruled(_schema(info.item_type, f"{path}[]"), f"{path}[]")
    bound = {"maxItems": info.max_length} if info.max_length is not None else {}
    return {"type": "array", "items": items} | bound | _list_kind(path)


def _list_kind(path: str) -> Schema:
    key = _MAP_KEYS.get(path)
    if key is None:
        return {"x-kubernetes-list-type": "atomic"}
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


def _scalar(info: inspect.Type, path: str) -> Schema:
    match info:
        case inspect.IntType():
            schema: Schema = {"type": "integer", "format": "int64"}
        case inspect.BoolType():
            schema = {"type": "boolean"}
        case inspect.UnionType():
            schema = {"x-kubernetes-int-or-string": True, "maxLength": 32}
        case inspect.LiteralType(values=values) if path.startswith("status"):
            schema = {"type": "string", "enum": sorted(values)}
        case _:
            schema = {"type": "string"} | ({"maxLength": _longest(info)} if _bounds(info) else {})
    return schema


def _longest(info: inspect.Type) -> int:
    """Return a bound beyond that of the rule, so that it is the rule that speaks; rules cost by it."""
    bound = info.max_length if isinstance(info, inspect.StrType) else None
    return 2 * bound if bound else _LONGEST_TEXT


def _bounds(info: inspect.Type) -> str:
    """Return the CEL rule of a scalar's bounds, if it has any."""
    match info:
        case inspect.IntType(ge=int(low), le=int(high)):
            return f"self >= {low} && self <= {high}"
        case inspect.LiteralType(values=values):
            return f"self in [{', '.join(repr(value) for value in values)}]"
        case inspect.StrType(pattern=str(pattern), max_length=longest):
            return f"self.size() <= {longest} && self.matches(r'{pattern}')"
        case inspect.StrType(max_length=int(longest)):
            return f"self.size() <= {longest}"
        case inspect.UnionType(types=(inspect.Metadata(type=inspect.StrType() as text), inspect.IntType())):
            return f"type(self) == int || ({_bounds(text)})"
        case _:
            return ""


def undescribed(schema: Schema, path: str = "") -> Iterator[str]:
    """Yield the fields that `kubectl explain` could say nothing about."""
    for name, part in schema.get("properties", {}).items():
        where = f"{path}.{name}" if path else name
        if "description" not in part and where != "metadata":
            yield where
        yield from undescribed(part, where)
        yield from undescribed(part.get("items", {}), f"{where}[]")

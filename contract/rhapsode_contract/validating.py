"""Say what is wrong with a manifest: every problem with its path, its rule and what was found. Pure.

The decoder of a manifest that a person wrote is strict (an unknown field of `spec` is a typing error), while
processes that read each other's JSON ignore what they do not know.
"""

import difflib
import json
import re
from collections.abc import Iterator, Sized
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.rules import RULES, values_at

_INFO = inspect.type_info(InferenceWorker)
_LENIENT = {"Metadata", "Status"}
"""Types with more fields in Kubernetes than we read."""


class Problem(NamedTuple):
    """One thing that is wrong, at `path`; with the whole, if that is empty."""

    path: str
    rule: str

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}" if self.path else self.rule


class ManifestError(ValueError):
    """A manifest that cannot be served; `problems` names every reason, and so does the message."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def decode_manifest(raw: object) -> InferenceWorker:
    """Return the resource that `raw` (parsed YAML or JSON) describes; ManifestError names every problem."""
    problems = list(_walk(raw, _INFO, ""))
    if not problems:
        problems = list(_cross_field_problems(raw))
    if problems:
        raise ManifestError(problems)
    return msgspec.convert(_without_nulls(raw, _INFO), InferenceWorker)


def _without_nulls(raw: object, info: inspect.Type | None) -> object:
    """Leave out what is null, which is absent; but not in JSON of its own, such as a schema."""
    bare, verbatim = _shape(info)
    if isinstance(raw, list):
        item = bare.item_type if isinstance(bare, inspect.ListType) else None
        return [_without_nulls(value, item) for value in raw]
    if not isinstance(raw, dict) or verbatim:
        return raw
    types = {field.encode_name: field.type for field in bare.fields} if isinstance(bare, inspect.StructType) else {}
    return {key: _without_nulls(value, types.get(key)) for key, value in raw.items() if value is not None}


def _shape(info: inspect.Type | None) -> tuple[inspect.Type | None, bool]:
    """Return a type without what is wrapped around it, and whether what it holds is kept as it is."""
    verbatim = False
    while isinstance(info, inspect.Metadata | inspect.UnionType):
        if isinstance(info, inspect.Metadata):
            verbatim = verbatim or bool((info.extra or {}).get("verbatim"))
            info = info.type
        else:
            info = next((kind for kind in info.types if not isinstance(kind, inspect.NoneType)), None)
    return info, verbatim


def _cross_field_problems(raw: object) -> Iterator[Problem]:
    for rule in RULES:
        for path, value in values_at(raw, rule.path):
            if rule.holds is not None and not rule.holds(value):
                yield Problem(path, rule.message)


def _walk(raw: object, info: inspect.Type, path: str) -> Iterator[Problem]:
    rule = ""
    while isinstance(info, inspect.Metadata):
        rule = (info.extra or {}).get("rule", "") or rule
        info = info.type
    match info:
        case inspect.UnionType():
            yield from _walk_union(raw, info, path)
        case inspect.StructType():
            yield from _walk_struct(raw, info, path)
        case inspect.DictType():
            yield from _walk_dict(raw, info, path)
        case inspect.ListType():
            yield from _walk_list(raw, info, path)
        case _:
            yield from _walk_scalar(raw, info, path, rule)


def _walk_scalar(raw: object, info: inspect.Type, path: str, rule: str) -> Iterator[Problem]:
    wanted = _TYPE_WORDS.get(type(info))
    if wanted is not None and not _is_of_type(raw, info):
        yield _of_type(path, wanted, raw)
    elif not _within_bounds(raw, info):
        yield _expected(path, rule_words(info, rule), raw)


_TYPE_WORDS: dict[type, str] = {
    inspect.LiteralType: "string",
    inspect.StrType: "string",
    inspect.IntType: "integer",
    inspect.BoolType: "boolean",
}


def _is_of_type(raw: object, info: inspect.Type) -> bool:
    if isinstance(info, inspect.IntType):
        return isinstance(raw, int) and not isinstance(raw, bool)
    return isinstance(raw, bool if isinstance(info, inspect.BoolType) else str)


def _within_bounds(raw: Any, info: inspect.Type) -> bool:
    match info:
        case inspect.LiteralType(values=values):
            return raw in values
        case inspect.StrType():
            return _fits(raw, info)
        case inspect.IntType():
            return _within(raw, info)
        case _:
            return True


def rule_words(info: inspect.Type, rule: str) -> str:
    """Return what a scalar must be, in the words that follow `expected`; nothing if all values are good."""
    match info:
        case inspect.LiteralType(values=values):
            return _choices(values)
        case inspect.StrType():
            return rule
        case inspect.IntType(ge=int(low), le=int(high)):
            return f"{low}..{high}"
        case inspect.UnionType(types=(inspect.Metadata(extra={"rule": str(words)}), _)):
            return words
        case _:
            return ""


def _walk_union(raw: object, info: inspect.UnionType, path: str) -> Iterator[Problem]:
    kinds = [kind for kind in info.types if not isinstance(kind, inspect.NoneType)]
    if raw is None and info.includes_none:
        return
    if len(kinds) == 1:
        yield from _walk(raw, kinds[0], path)
    elif fitting := [kind for kind in kinds if _is_of_type(raw, _bare(kind))]:
        yield from _walk(raw, fitting[0], path)
    else:
        yield _of_type(path, "integer,string", raw)


def _bare(info: inspect.Type) -> inspect.Type:
    return info.type if isinstance(info, inspect.Metadata) else info


def _walk_struct(raw: object, info: inspect.StructType, path: str) -> Iterator[Problem]:
    if not isinstance(raw, dict):
        yield _of_type(path or "manifest", "object", raw)
        return
    known = {field.encode_name: field for field in info.fields}
    if info.cls.__name__ not in _LENIENT:
        yield from (_unknown(_join(path, key), key, list(known)) for key in raw if key not in known)
    for name, field in known.items():
        if raw.get(name) is not None:  # Kubernetes, too, takes null for absent
            yield from _walk(raw[name], field.type, _join(path, name))
        elif field.required:
            yield Problem(_join(path, name), "required")


def _walk_dict(raw: object, info: inspect.DictType, path: str) -> Iterator[Problem]:
    if not isinstance(raw, dict):
        yield _of_type(path, "object", raw)
        return
    yield from _too_many(raw, info, path)
    for key, value in raw.items():
        if not isinstance(key, str):
            yield _expected(path, "names that are strings", key)
        else:
            yield from _walk(value, info.value_type, _join(path, key))


def _walk_list(raw: object, info: inspect.ListType, path: str) -> Iterator[Problem]:
    if not isinstance(raw, list):
        yield _of_type(path, "array", raw)
        return
    yield from _too_many(raw, info, path)
    for index, value in enumerate(raw):
        yield from _walk(value, info.item_type, f"{path}[{index}]")


def _too_many(raw: Sized, info: inspect.ListType | inspect.DictType, path: str) -> Iterator[Problem]:
    """Say it as the API server does, which counts before any rule of ours."""
    if info.max_length is not None and len(raw) > info.max_length:
        yield Problem(path, f"must have at most {info.max_length} items, got {len(raw)}")


def _fits(text: str, info: inspect.StrType) -> bool:
    if info.max_length is not None and len(text) > info.max_length:
        return False
    if info.pattern is None:
        return True
    found = re.search(info.pattern, text)
    return found is not None and not text.endswith("\n")


def _within(number: int, info: inspect.IntType) -> bool:
    return (info.ge is None or number >= info.ge) and (info.le is None or number <= info.le)


def _choices(values: tuple[Any, ...]) -> str:
    return str(values[0]) if len(values) == 1 else "one of " + ", ".join(map(str, values))


def _of_type(path: str, wanted: str, raw: object) -> Problem:
    """Say it as the API server does, which judges types before any rule of ours."""
    return Problem(path, f"must be of type {wanted}, got {_show(raw)}")


def _expected(path: str, rule: str, raw: object) -> Problem:
    return Problem(path, f"expected {rule}, got {_show(raw)}")


def _show(raw: object) -> str:
    try:
        got = json.dumps(raw, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        got = type(raw).__name__
    return got if len(got) <= 80 else got[:79] + "…"


def _unknown(path: str, key: object, known: list[str]) -> Problem:
    near = difflib.get_close_matches(str(key), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
    return Problem(path, "unknown field" + hint)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)

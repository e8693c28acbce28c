"""Say what is wrong with a manifest: every problem with its path, its rule and what was found. Pure.

The decoder of a manifest that a person wrote is strict (an unknown field of `spec` is a typing error), while
processes that read each other's JSON ignore what they do not know.
"""

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.sources import parse_source

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
    return msgspec.convert(raw, InferenceWorker)


def _cross_field_problems(raw: Any) -> Iterator[Problem]:
    try:
        parse_source(raw["spec"]["model"]["source"])
    except ValueError as exc:
        yield Problem("spec.model.source", str(exc))


def _walk(raw: object, info: inspect.Type, path: str) -> Iterator[Problem]:
    rule = ""
    if isinstance(info, inspect.Metadata):
        rule = (info.extra or {}).get("rule", "")
        info = info.type
    match info:
        case inspect.UnionType():
            yield from _walk_optional(raw, info, path)
        case inspect.StructType():
            yield from _walk_struct(raw, info, path)
        case inspect.DictType():
            yield from _walk_dict(raw, info, path)
        case inspect.ListType():
            yield from _walk_list(raw, info, path)
        case _:
            if broken := _broken_rule(raw, info, rule):
                yield _expected(path, broken, raw)


def _broken_rule(raw: object, info: inspect.Type, rule: str) -> str:
    """Return the rule that a scalar breaks, or nothing."""
    match info:
        case inspect.LiteralType():
            fits, wanted = raw in info.values and not isinstance(raw, bool), _choices(info.values)
        case inspect.StrType():
            fits, wanted = isinstance(raw, str) and _fits(raw, info), rule or "a string"
        case inspect.IntType():
            fits = isinstance(raw, int) and not isinstance(raw, bool) and _within(raw, info)
            wanted = "an integer" if info.ge is None else f"{info.ge}..{info.le}"
        case inspect.BoolType():
            fits, wanted = isinstance(raw, bool), "true or false"
        case _:
            fits, wanted = True, ""
    return "" if fits else wanted


def _walk_optional(raw: object, info: inspect.UnionType, path: str) -> Iterator[Problem]:
    if raw is not None:
        (wanted,) = (kind for kind in info.types if not isinstance(kind, inspect.NoneType))
        yield from _walk(raw, wanted, path)


def _walk_struct(raw: object, info: inspect.StructType, path: str) -> Iterator[Problem]:
    if not isinstance(raw, dict):
        yield _expected(path or "manifest", "a mapping", raw)
        return
    known = {field.encode_name: field for field in info.fields}
    if info.cls.__name__ not in _LENIENT:
        yield from (_unknown(_join(path, key), key, list(known)) for key in raw if key not in known)
    for name, field in known.items():
        if name in raw:
            yield from _walk(raw[name], field.type, _join(path, name))
        elif field.required:
            yield Problem(_join(path, name), "required")


def _walk_dict(raw: object, info: inspect.DictType, path: str) -> Iterator[Problem]:
    if not isinstance(raw, dict):
        yield _expected(path, "a mapping", raw)
        return
    for key, value in raw.items():
        if not isinstance(key, str):
            yield _expected(path, "names that are strings", key)
        else:
            yield from _walk(value, info.value_type, _join(path, key))


def _walk_list(raw: object, info: inspect.ListType, path: str) -> Iterator[Problem]:
    if not isinstance(raw, list):
        yield _expected(path, "a list", raw)
        return
    for index, value in enumerate(raw):
        yield from _walk(value, info.item_type, f"{path}[{index}]")


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


def _expected(path: str, rule: str, raw: object) -> Problem:
    try:
        got = json.dumps(raw, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        got = type(raw).__name__
    return Problem(path, f"expected {rule}, got {got if len(got) <= 80 else got[:79] + '…'}")


def _unknown(path: str, key: object, known: list[str]) -> Problem:
    near = difflib.get_close_matches(str(key), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
    return Problem(path, "unknown field" + hint)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)

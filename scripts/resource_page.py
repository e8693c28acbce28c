"""The reference page of the resource, from its types and its tables. Called by `generate`."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from rhapsode_contract.conditions import CONDITIONS, FAILURES, REASONS, Reason
from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.rules import RULES
from rhapsode_contract.schemas import COLUMNS, unwrap
from rhapsode_contract.validating import rule_words

HEAD = """
# InferenceWorker

`apiVersion: rhapsode.dev/v1alpha1`, short name `iw`, category `ml`. The same manifest runs on a laptop with
`rhapsode play`, which reads `model`, `engine` and `relay`, and in a cluster, where the operator reads all of it.
A field that is not here is refused with its path:
`spec.engine.maxSequence: unknown field; did you mean maxSequences?`

The engines' own `options` are in [engines.md](engines.md). Working manifests are in [examples](../examples).

## spec

| field | type | default | what |
|---|---|---|---|
"""
RULES_HEAD = """
Besides:

"""
STATUS_HEAD = """
## status

Programs read `conditions`. `phase`, `narration` and the summaries are for people and may change their words.
`load`, `vram` and `narration` are written by the field manager `rhapsode-telemetry` under a budget: a new stage at
once, progress every 30 s and 5 points at most, and ever less often in a long load. Live numbers are in the worker's
stream and in the metrics.

| field | type | what |
|---|---|---|
"""
COLUMNS_HEAD = """
## Columns

`kubectl get iw`, and with `-o wide` those marked.

| column | from |
|---|---|
"""
CONDITIONS_HEAD = """
## Conditions

| condition | it is true when |
|---|---|
"""
FAILURES_HEAD = """
## Reasons of failures

The reason of `Ready`, and of `Stalled` where only a person can help. The message has the particulars and the remedy.

| reason | what happened | remedy | stalls |
|---|---|---|---|
"""
USUAL_HEAD = """
## Other reasons

| reason | what it means |
|---|---|
"""


def resource_page() -> str:
    """Return the page."""
    info = inspect.type_info(InferenceWorker)
    fields = list(_fields(info, ""))
    spec = [_spec_row(path, field) for path, field in fields if not path.startswith("status")]
    status = [_status_row(path, field) for path, field in fields if path.startswith("status")]
    usual = [reason for name, reason in REASONS.items() if name not in FAILURES]
    parts = [
        HEAD, *filter(None, spec), RULES_HEAD, *(f"- `{rule.path}`: {rule.message}\n" for rule in RULES),
        STATUS_HEAD, *filter(None, status),
        COLUMNS_HEAD, *(f"| {name}{' (wide)' * bool(wide)} | `{path}` |\n" for name, _, path, wide in COLUMNS),
        CONDITIONS_HEAD, *(f"| `{name}` | {what} |\n" for name, what in CONDITIONS.items()),
        FAILURES_HEAD, *map(_failure_row, FAILURES.values()),
        USUAL_HEAD, *(f"| `{reason.name}` | {reason.what} |\n" for reason in usual),
    ]  # fmt: skip
    return "".join(parts)


def _failure_row(reason: Reason) -> str:
    return f"| `{reason.name}` | {reason.what} | {reason.remedy} | {'yes' if reason.stalls else ''} |\n"


def _fields(info: Any, path: str) -> Iterator[tuple[str, inspect.Field]]:
    for field in info.fields:
        where = f"{path}.{field.encode_name}" if path else field.encode_name
        yield where, field
        kind = unwrap(field.type).info
        if isinstance(kind, inspect.ListType):
            kind, where = kind.item_type, f"{where}[]"
        if isinstance(kind, inspect.StructType):
            yield from _fields(kind, where)


def _spec_row(path: str, field: inspect.Field) -> str:
    bare = unwrap(field.type)
    if not bare.description or path == "spec":
        return ""
    kind = rule_words(bare.info, bare.rule) or _type_words(bare.info)
    return f"| `{path}` | {kind} | {_default_words(field)} | {bare.description} |\n"


def _status_row(path: str, field: inspect.Field) -> str:
    bare = unwrap(field.type)
    if path == "status":
        return ""
    return f"| `{path}` | {rule_words(bare.info, '') or _type_words(bare.info)} | {bare.description} |\n"


def _type_words(kind: inspect.Type) -> str:
    match kind:
        case inspect.IntType():
            return "integer"
        case inspect.BoolType():
            return "boolean"
        case inspect.ListType():
            return "list"
        case inspect.AnyType():
            return "any"
        case inspect.DictType() | inspect.StructType():
            return "mapping"
        case _:
            return "string"


def _default_words(field: inspect.Field) -> str:
    if field.required:
        return "**required**"
    if field.default is msgspec.NODEFAULT or isinstance(field.default, msgspec.Struct):
        return ""
    return "" if field.default in (None, "") else f"`{json.dumps(field.default).strip(chr(34))}`"

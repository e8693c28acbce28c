"""Write the chart's `values.yaml`, its schema and the table of its README from `chart_values`.

Called by `generate`."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import yaml
from msgspec import inspect

from rhapsode_contract.schemas import unwrap
from scripts.chart_values import DEFAULTS, Values

MADE = "Made by `make generate` from scripts/chart_values.py"
WIDTH = 110
TABLE_HEAD = "## Values\n"


class Value(NamedTuple):
    """One value, or a group of values."""

    path: str
    name: str
    what: str
    default: Any
    inner: inspect.StructType | None

    @property
    def depth(self) -> int:
        return self.path.count(".")


def values_yaml() -> str:
    """Return the default values, each with its comment."""
    lines = [f"# {MADE}; edit that.\n"]
    for value in read_values():
        if value.depth == 0:
            lines.append("\n")
        lines += [textwrap.indent(line, "  " * value.depth) for line in _value_lines(value)]
    return "".join(lines)


def values_schema() -> str:
    """Return the schema by which Helm checks values. Everything may be left out: it has a default."""
    (found,), parts = msgspec.json.schema_components([Values], ref_template="#/$defs/{name}")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": MADE,
        **found,
        "$defs": {name: _relaxed(part) for name, part in parts.items()},
    }
    return json.dumps(schema, indent=2) + "\n"


def values_table() -> str:
    """Return the table of all values."""
    rows = ["| value | default | what |\n|---|---|---|\n"]
    rows += [
        f"| `{value.path}` | `{json.dumps(value.default)}` | {value.what} |\n"
        for value in read_values()
        if value.inner is None
    ]
    return "".join(rows)


def readme(page: str) -> str:
    """Return the chart's README with its table made anew."""
    head, mark, _ = page.partition(TABLE_HEAD)
    assert mark, f"the chart's README lacks {TABLE_HEAD!r}"
    return f"{head}{TABLE_HEAD}\n<!-- {MADE}. -->\n\n{values_table()}"


def read_values() -> Iterator[Value]:
    """Yield every value in order, groups before what is in them."""
    info = inspect.type_info(Values)
    assert isinstance(info, inspect.StructType)
    yield from _read(info, "")


def _read(info: inspect.StructType, path: str) -> Iterator[Value]:
    for field in info.fields:
        where = f"{path}.{field.encode_name}" if path else field.encode_name
        kind = unwrap(field.type)
        inner = kind.info if isinstance(kind.info, inspect.StructType) else None
        yield Value(where, field.encode_name, kind.description, None if inner else _default(field, where), inner)
        if inner is not None:
            yield from _read(inner, where)


def _default(field: inspect.Field, path: str) -> Any:
    if path in DEFAULTS:
        return DEFAULTS[path]
    if field.default is not msgspec.NODEFAULT:
        return field.default
    assert field.default_factory is not msgspec.NODEFAULT, f"{path} has no default"
    return field.default_factory()


def _value_lines(value: Value) -> Iterator[str]:
    yield from (f"# {line}\n" for line in textwrap.wrap(value.what, WIDTH))
    if value.inner is not None:
        yield f"{value.name}:\n"
    else:
        yield yaml.safe_dump({value.name: value.default}, sort_keys=False, width=WIDTH)


def _relaxed(part: dict[str, Any]) -> dict[str, Any]:
    """Drop what Helm does not need: which values are required and what their defaults are."""
    part = {name: rule for name, rule in part.items() if name != "required"}
    if part.get("title") == "Reference":
        part["required"] = ["name"]
    return part

"""Write the reference pages that are made from the code: `docs/narration.md` and `docs/manifest.md`.

Run by `make generate`; `.ci/run` fails when the result differs from what is committed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from rhapsode_contract.catalogue import CATALOGUE, Entry
from rhapsode_contract.resources import InferenceWorker

DOCS = Path(__file__).parent.parent / "docs"
MADE = "<!-- Made by `make generate`; edit the code that it names, not this page. -->\n"

NARRATION_HEAD = f"""{MADE}
# What Rhapsode says

Every action that Rhapsode narrates by itself, from the one table in
[catalogue.py](../contract/rhapsode_contract/catalogue.py). Programs act on `action` and `fields`; people read
`human`, `cute` or `story`, which say the same fact in three voices. An action's name never changes once released.

In the words, `{{name}}` is a field, `{{name:unit}}` a field shown in that unit, and a part in `[…]` is left out
when its field is unknown: a number is measured or absent. How to narrate yourself: [stream.md](stream.md).
"""
LIFECYCLE_HEAD = """
## Lifecycle

To standard output, to the worker's stream, and into a request only while that request waits for the worker.
"""
REQUEST_HEAD = """
## Requests

To standard output and to that request's readers.
"""
MANIFEST_HEAD = f"""{MADE}
# The manifest

Every field of `spec`, from the types in [resources.py](../contract/rhapsode_contract/resources.py). A field that
is not here is refused with its path: `spec.engine.maxSequence: unknown field; did you mean maxSequences?`

The engines' own `options` are in [engines.md](engines.md). Working manifests are in [examples](../examples).

| field | type | default | what |
|---|---|---|---|
"""


def narration_page() -> str:
    """Return the catalogue as a page."""
    parts = [NARRATION_HEAD]
    for audience, head in (("lifecycle", LIFECYCLE_HEAD), ("request", REQUEST_HEAD)):
        entries = [entry for entry in CATALOGUE.values() if entry.audience == audience]
        parts += [head, *map(_entry_section, entries)]
    return "".join(parts)


def manifest_page() -> str:
    """Return the fields of the resource as a page."""
    info = inspect.type_info(InferenceWorker)
    rows = [row for row in _field_rows(info, "") if not row.startswith("| `status")]
    return MANIFEST_HEAD + "".join(rows)


def _entry_section(entry: Entry) -> str:
    fields = ", ".join(f"`{name}`" for name in sorted(entry.fields))
    voices = [("human", entry.human), ("cute", entry.cute), ("story", entry.story)]
    words = "".join(f"- {voice}: {text}\n" for voice, text in voices if text)
    return f"\n### `{entry.action}`\n{entry.actor}, {entry.level}. Fields: {fields}.\n\n{words}"


def _field_rows(info: Any, path: str) -> Iterator[str]:
    for field in info.fields:
        where = f"{path}.{field.encode_name}" if path else field.encode_name
        kind, description, rule = _unwrap(field.type)
        if isinstance(kind, inspect.StructType):
            yield from _field_rows(kind, where)
        elif description:
            yield f"| `{where}` | {rule or _type_words(kind)} | {_default_words(field)} | {description} |\n"


def _unwrap(kind: inspect.Type) -> tuple[inspect.Type, str, str]:
    """Return a type without its optional part and its metadata, its description and its rule in words."""
    description = rule = ""
    while True:
        if isinstance(kind, inspect.Metadata):
            description = (kind.extra_json_schema or {}).get("description", "") or description
            rule = (kind.extra or {}).get("rule", rule)
            kind = kind.type
        elif isinstance(kind, inspect.UnionType):
            kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
        else:
            return kind, description, rule


def _type_words(kind: inspect.Type) -> str:
    match kind:
        case inspect.IntType(ge=low, le=high):
            return f"{low}–{high}"
        case inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case inspect.DictType():
            return "mapping"
        case _:
            return "string"


def _default_words(field: inspect.Field) -> str:
    if field.required:
        return "**required**"
    if field.default is msgspec.NODEFAULT:
        return "`{}`"
    return "" if field.default is None else f"`{json.dumps(field.default).strip(chr(34))}`"


def main() -> None:
    """Write the pages."""
    for name, page in (("narration.md", narration_page()), ("manifest.md", manifest_page())):
        (DOCS / name).write_text(page)


if __name__ == "__main__":
    main()

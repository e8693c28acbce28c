"""Turn facts into words: templates with units, and parts that vanish when their fact is unknown. Pure.

A template is text with `{field}` or `{field:unit}`. A part in `[...]` is left out when one of its fields is
absent, so that a sentence never shows a number that nobody measured.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from rhapsode_contract.names import MAX_HUMAN_CHARS

_PART = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")
_FIELD = re.compile(r"\{([a-z_0-9]+)(?::([a-z_]+))?\}")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+")
_UNSAFE_IN_TABLE = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def fill(template: str, fields: Mapping[str, Any]) -> str:
    """Return the sentence; KeyError if a field outside brackets is absent."""
    return "".join(_fill_part(found, fields) for found in _PART.finditer(template))


def fields_of(template: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the fields that a template needs, and those it can do without."""
    needed: set[str] = set()
    optional: set[str] = set()
    for found in _PART.finditer(template):
        names = {name for name, _ in _FIELD.findall(found[0])}
        (needed if found[1] is None else optional).update(names)
    return frozenset(needed), frozenset(optional - needed)


def clean(text: str, *, table: bool = False, limit: int = MAX_HUMAN_CHARS) -> str:
    """Return text that is safe on a screen and in a log: no control or direction characters, bounded.

    A table keeps its newlines and tabs.
    """
    text = (_UNSAFE_IN_TABLE if table else _UNSAFE).sub(" ", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _fill_part(found: re.Match[str], fields: Mapping[str, Any]) -> str:
    if found[1] is None:
        return _FIELD.sub(lambda field: _show(fields[field[1]], field[2]), found[2])
    names = [name for name, _ in _FIELD.findall(found[1])]
    if any(fields.get(name) is None for name in names):
        return ""
    return _FIELD.sub(lambda field: _show(fields[field[1]], field[2]), found[1])


def _show(value: Any, unit: str | None) -> str:
    return str(value) if unit is None else UNITS[unit](value)


def _thin(value: float) -> str:
    """Return three significant figures, without an exponent: 98.4, 3.1, 0.043, 1234."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    text = f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.6f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _size(value: float) -> str:
    if value >= 1e9:
        return f"{_thin(value / 1e9)} GB"
    return f"{_thin(value / 1e6)} MB" if value >= 1e5 else f"{_thin(value / 1e3)} kB"


def _span(seconds: float) -> str:
    if seconds < 60:
        return f"{_thin(round(seconds, 1))} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


UNITS: dict[str, Callable[[Any], str]] = {
    "size": _size,  # bytes of files, powers of ten
    "gib": lambda value: f"{_thin(value / 2**30)} GiB",  # bytes of memory
    "span": _span,  # seconds
    "ms": lambda value: f"{_thin(round(value, 1))} ms",
    "rate": _thin,  # per second
    "s": lambda value: "" if value == 1 else "s",  # the plural of what was counted
    "percent": lambda value: f"{value * 100:.0f} %",  # of 0..1
    "word": lambda value: clean(str(value), limit=160),
    "whole": lambda value: clean(str(value)),  # a sentence of others, which ends with a remedy
}

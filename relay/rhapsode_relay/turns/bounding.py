"""What templates may make of text, bounded before it is made. Used by `rendering`.

A filter such as `replace` can make gigabytes of the little that a client sends. They would be refused, but making
them takes the relay's memory first.
"""

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import TemplateError, pass_eval_context
from jinja2.filters import FILTERS

Filter = Callable[..., Any]

MAX_TEXT_CHARS = 256 * 1024
"""Longest text of one template, and of each step on the way to it."""
GROWING = frozenset(
    ["center", "expandtabs", "format", "format_map", "join", "ljust", "replace", "rjust", "translate", "zfill"]
)
"""Methods of texts that a template cannot call; filters do the same, within bounds."""
_BY_NUMBER = ("batch", "center", "indent", "slice", "tojson", "wordwrap")
"""Filters whose result grows with what else they are given."""
_MOST = 200


def bounded_filters() -> dict[str, Filter]:
    """Return filters to take instead of Jinja's."""
    return {name: _with_little(FILTERS[name]) for name in _BY_NUMBER} | {
        "format": _format,
        "join": _join,
        "replace": _replace,
    }


def _with_little(made: Filter) -> Filter:
    """Let a filter be given small numbers and short texts only, beside what it filters."""
    first = 2 if hasattr(made, "jinja_pass_arg") else 1

    @functools.wraps(made)
    def bounded(*args: Any, **named: Any) -> Any:
        for given in (*args[first:], *named.values()):
            if (len(given) if isinstance(given, str) else given if isinstance(given, int) else 0) > _MOST:
                raise TemplateError(f"a filter is given more than {_MOST}")
        return made(*args, **named)

    return bounded


def _format(value: Any, *args: Any, **named: Any) -> Any:
    if re.search(r"%(\([^)]*\))?[^a-zA-Z%]*(\*|\d{4})", str(value)):
        raise TemplateError("format can fill no more than 999 characters")
    return FILTERS["format"](value, *args, **named)


@pass_eval_context
def _join(context: Any, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> Any:
    items = list(value)
    _check(len(items) * len(str(d)))
    return FILTERS["join"](context, items, d, attribute)


@pass_eval_context
def _replace(context: Any, s: Any, old: str, new: str, count: int | None = None) -> Any:
    _check(len(str(s)) + str(s).count(str(old)) * len(str(new)))
    return FILTERS["replace"](context, str(s), str(old), str(new), count)


def _check(chars: int) -> None:
    if chars > MAX_TEXT_CHARS:
        raise TemplateError(f"a text becomes longer than {MAX_TEXT_CHARS} characters")

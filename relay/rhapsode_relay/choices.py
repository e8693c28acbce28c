"""Which values a field may have, for the words of a refusal: msgspec names none. Called by `answering`. Pure."""

import functools
import re
from collections.abc import Iterable, Iterator

from msgspec import inspect

_STEP = re.compile(r"\w+|\[[^]]*\]")
_info = functools.lru_cache(maxsize=64)(inspect.type_info)
"""Of a body's type: asking takes longer than decoding, and a hostile client may send one bad body after the other."""


def choices(kind: type, path: str) -> list[str]:
    """Return the words that a field takes, sorted; none if it is not for certain words. `path` is msgspec's."""
    found: list[inspect.Type] = [_info(kind)]
    for step in _STEP.findall(path):
        found = [inner for one in _alternatives(found) for inner in _within(one, step)]
    words = {value for one in _alternatives(found) if isinstance(one, inspect.LiteralType) for value in one.values}
    return sorted(str(one) for one in words)


def _alternatives(kinds: Iterable[inspect.Type]) -> Iterator[inspect.Type]:
    for one in kinds:
        yield from one.types if isinstance(one, inspect.UnionType) else (one,)


def _within(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    """Yield what a field, an item or a value of a mapping may be."""
    if isinstance(kind, inspect.StructType):
        yield from (one.type for one in kind.fields if one.encode_name == step)
    elif isinstance(kind, inspect.ListType) and step.startswith("["):
        yield kind.item_type
    elif isinstance(kind, inspect.DictType):
        yield kind.value_type

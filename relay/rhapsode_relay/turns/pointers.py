"""JSON pointers (RFC 6901), and those of a contract, where `*` is every item of a list. Pure; called in `turns`."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

Json = Any


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()
"""What is at a place that is not there."""


class Place(NamedTuple):
    """Where a value is, or could be: `key` of an object or list that is there. `stars` are the items of each `*`."""

    holder: dict[str, Any] | list[Any]
    key: str | int
    path: tuple[str, ...]
    stars: tuple[int, ...] = ()

    def value(self) -> Json:
        if isinstance(self.holder, dict):
            return self.holder.get(str(self.key), MISSING)
        return self.holder[int(self.key)]

    def put(self, value: Json) -> None:
        self.holder[self.key] = value  # type: ignore[index]

    @property
    def pointer(self) -> str:
        return join(self.path)


@lru_cache(maxsize=1024)
def split(pointer: str) -> tuple[str, ...]:
    """Return the steps of a pointer, unescaped. Each turn asks for the same few, those of its contract."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


def join(steps: Sequence[str]) -> str:
    """Return the pointer of steps."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def find(document: Json, pointer: str) -> Json:
    """Return what is at a pointer without `*`, or MISSING."""
    for step in split(pointer):
        document = _step(document, step)
    return document


def places(document: Json, pointer: str) -> Iterator[Place]:
    """Yield the places that a pointer names, in order. An object need not hold the last key; all else is there."""
    *parents, last = split(pointer)
    yield from _places(document, parents, last, (), ())


def bind(pointer: str, stars: Sequence[int]) -> str:
    """Return a pointer with its first `*` replaced by the first of `stars`, and so on."""
    left = iter(stars)
    return "/".join(str(next(left, step)) if step == "*" else step for step in pointer.split("/"))


def _places(
    at: Json, parents: list[str], last: str, path: tuple[str, ...], stars: tuple[int, ...]
) -> Iterator[Place]:
    step, rest = (parents[0], parents[1:]) if parents else (last, None)
    if step == "*":
        indices = range(len(at)) if isinstance(at, list) else ()
        chosen = [(index, str(index), (*stars, index)) for index in indices]
    else:
        chosen = [(-1, step, stars)]
    for index, name, taken in chosen:
        here = (*path, name)
        if rest is None:
            yield from _end(at, name, index, here, taken)
        else:
            yield from _places(_step(at, name), rest, last, here, taken)


def _end(at: Json, name: str, index: int, path: tuple[str, ...], stars: tuple[int, ...]) -> Iterator[Place]:
    if isinstance(at, dict):
        yield Place(at, name, path, stars)
    elif isinstance(at, list):
        found = index if index >= 0 else _index(at, name)
        if found is not None:
            yield Place(at, found, path, stars)


def _step(at: Json, name: str) -> Json:
    if isinstance(at, dict):
        return at.get(name, MISSING)
    if isinstance(at, list) and (index := _index(at, name)) is not None:
        return at[index]
    return MISSING


def _index(items: list[Any], name: str) -> int | None:
    """Return the index that a step means; RFC 6901 allows no sign and no leading zero."""
    if not (name.isascii() and name.isdecimal()) or len(name) > 9 or (name[0] == "0" and name != "0"):
        return None
    return int(name) if int(name) < len(items) else None

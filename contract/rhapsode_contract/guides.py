"""What an answer must keep to: a JSON schema, a regular expression or a grammar. Asked by the relay and the engines.

On the wire each kind is a field of its own, in a request, in `generate`, and in what an engine says it can do.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

GuideKind = Literal["json_schema", "regex", "grammar"]
GUIDE_WORDS: Mapping[GuideKind, str] = {
    "json_schema": "JSON schema",
    "regex": "regular expression",
    "grammar": "grammar",
}


class Guided(Protocol):
    """Who has guides: an `InferenceRequest`, a `Generate`."""

    json_schema: dict[str, Any] | None
    regex: str | None
    grammar: str | None


class Keeper(Protocol):
    """Who says which kinds an engine keeps to: `Caps`."""

    json_schema: bool
    regex: bool
    grammar: bool


class Guide(NamedTuple):
    """One guide. `kind` is the field that it came in; a schema's `text` is JSON."""

    kind: GuideKind
    text: str

    @property
    def words(self) -> str:
        return GUIDE_WORDS[self.kind]


def guides_of(request: Guided) -> list[Guide]:
    """Return the guides of a request; a good one has one at most."""
    given: Mapping[GuideKind, Any] = {kind: getattr(request, kind) for kind in GUIDE_WORDS}
    return [Guide(kind, _text(value)) for kind, value in given.items() if value is not None]


def guide_of(request: Guided) -> Guide | None:
    """Return the guide of a request that was let in."""
    return next(iter(guides_of(request)), None)


def lacking(engine: Keeper, request: Guided) -> Guide | None:
    """Return a guide of the request that an engine cannot keep to."""
    return next((guide for guide in guides_of(request) if not getattr(engine, guide.kind)), None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()

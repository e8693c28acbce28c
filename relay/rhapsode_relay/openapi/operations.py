"""What is said of a route: the words of the tables. Called by the tables and by `documenting`. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Place = Literal["path", "query", "header"]
Schema = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """What a client may say beside the body."""

    name: str
    place: Place
    what: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    example: Any = None
    is_required: bool = False


@dataclass(frozen=True)
class Stream:
    """Events that are streamed as SSE: `name` is their component, `events` the types of what `data:` holds.

    `is_named` says whether each event has an `event:` line, equal to its type; `last_words` is the one `data:`
    that is no JSON.
    """

    name: str
    events: tuple[Any, ...]
    is_named: bool = True
    has_ids: bool = True
    last_words: str = ""


@dataclass(frozen=True)
class Answer:
    """One way to be answered. `headers` are those of `documenting.HEADERS` that come always."""

    status: int
    what: str
    body: Any = None
    stream: Stream | None = None
    media_type: str = "application/json"
    other_types: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    formats: Mapping[str, Stream] = field(default_factory=dict)
    """What the stream is instead, by what `format=` says."""


@dataclass(frozen=True)
class Operation:
    """One route and method. `refusals` are the codes of its own errors by status; what all have is added to them."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    answers: tuple[Answer, ...]
    details: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    example: Any = None
    refusals: Mapping[int, str] = field(default_factory=dict)
    is_public: bool = False
    takes_ticket: bool = False
    messages: Stream | None = None
    """What a WebSocket carries."""

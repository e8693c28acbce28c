"""What the UI protocols have in common: how a stream goes, how an event is written, and what of ours it carries.
Called by `agui` and `vercel`. Pure.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from rhapsode_contract import events
from rhapsode_relay.quoting import quote

KEEP_ALIVE = b": keepalive\n\n"
"""A comment: the clients of both protocols pass over it."""
CUT_OFF = events.ErrorBody(
    message="the stream ended before its job did; open it again", type="server_error", code="stream_ended"
)
"""What is told instead of an end that is not known yet."""
_ENVELOPE = ("type", "seq", "job_id", "correlation_id")


class Telling(ABC):
    """One stream: begun with its first event, over once. What is said for each kind of event is the protocol's."""

    def __init__(self, tellers: Mapping[type, Callable[[Any], bytes]]) -> None:
        self._tellers = tellers
        self._state = "new"
        self._speaking = False
        """Whether a text is open."""

    def tell(self, event: events.StreamEvent) -> bytes:
        if self._speaking and isinstance(event, events.Token):
            return self._text(event.t)
        teller = self._tellers.get(type(event))
        if teller is None or self._state == "over":
            return b""
        if self._state == "running":
            return teller(event)
        self._state = "running"
        return self._begin(event) + teller(event)

    def beat(self) -> bytes:
        return KEEP_ALIVE

    def part(self) -> bytes:
        return b"" if self._state == "over" else self._break_off(CUT_OFF)

    @abstractmethod
    def _begin(self, event: events.StreamEvent) -> bytes:
        """Return what comes before all else, of which `event` is the first."""

    @abstractmethod
    def _text(self, text: str) -> bytes:
        """Return a piece of the text that is open."""

    @abstractmethod
    def _break_off(self, error: events.ErrorBody) -> bytes:
        """End all that has begun, and the stream, for an error."""


def say(*said: Any) -> bytes:
    """Return events as both protocols write them: bare data, each on one line."""
    return b"".join(b"data: %b\n\n" % quote(event) for event in said)


def name_of(event: events.StreamEvent) -> str:
    """Return what an event of ours is called."""
    return str(event.__struct_config__.tag)


def contents(event: events.StreamEvent) -> dict[str, Any]:
    """Return what an event says, without what every event of ours has."""
    said: dict[str, Any] = msgspec.to_builtins(event)
    for name in _ENVELOPE:
        said.pop(name, None)
    return said


def recalled(snapshot: events.Snapshot) -> list[dict[str, Any]]:
    """Return what a snapshot knows of the narrations before it."""
    return [msgspec.to_builtins(one) for one in snapshot.narration]

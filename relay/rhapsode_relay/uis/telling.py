"""What the UI protocols have in common: how an event is written, and what of ours it carries. Called by `agui` and
`vercel`. Pure.
"""

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

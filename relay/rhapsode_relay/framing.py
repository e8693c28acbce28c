"""Turn a stream of SSE into WebSocket messages: one event, one JSON text. Called by `upgrading`. Pure.

An event's data is copied as it is and never parsed, so both transports carry the same bytes. A server's frames have
no mask and no state, and ours are never in parts: a length and the text. What clients send is left to wsproto.
"""

PING = b"\x89\x00"
"""A ping without a payload; it stands for SSE's comments, which are heartbeats."""
_TEXT = b"\x81"


class Framer:
    """Frames one stream. What comes may be cut anywhere: the rest of an event waits for its end."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.last = b""
        """The name of the last event."""

    def frames(self, chunk: bytes) -> bytes:
        """Return the messages of the events that are whole, and a ping for each heartbeat between events."""
        self._parts.append(chunk)
        if b"\n" not in chunk:  # in the midst of an event, which may be megabytes
            return b""
        *blocks, rest = b"".join(self._parts).split(b"\n\n")
        out = [_frame(self._message(block)) for block in blocks]
        while rest.startswith(b":") and b"\n" in rest:
            rest = rest.partition(b"\n")[2]
            out.append(PING)
        self._parts = [rest]
        return b"".join(out)

    def _message(self, block: bytes) -> bytes:
        """Return the message of an event, whose lines are always in this order: id, event, data."""
        head, _, data = block.partition(b"\ndata: ")
        head, _, self.last = head.rpartition(b"\nevent: ")
        return b'{"event":"%b","id":"%b","data":%b}' % (self.last, head.rpartition(b"id: ")[2], data)


def _frame(text: bytes) -> bytes:
    size = len(text)
    if size < 126:
        return b"%b%c%b" % (_TEXT, size, text)
    if size < 65_536:
        return b"%b\x7e%b%b" % (_TEXT, size.to_bytes(2, "big"), text)
    return b"%b\x7f%b%b" % (_TEXT, size.to_bytes(8, "big"), text)

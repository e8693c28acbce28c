"""Read our own SSE back into events, for dialects. Called by `translating`. Pure.

A reader writes whole events, so nothing has to be kept between two chunks.
"""

from collections.abc import Iterator

import msgspec

from rhapsode_contract import events

_decode = msgspec.json.Decoder(events.StreamEvent).decode
_DATA = b"\ndata: "


def split_events(chunk: bytes) -> Iterator[events.StreamEvent | None]:
    """Yield the events of a chunk; None stands for a heartbeat."""
    for block in chunk.split(b"\n\n"):
        _, found, data = block.partition(_DATA)
        if found:
            yield _decode(data)
        elif b":" in block:
            yield None

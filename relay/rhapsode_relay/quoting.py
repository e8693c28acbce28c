"""JSON for one line of SSE. Called by `encoding` and all dialects. Pure.

Some clients end a line wherever Python's `str.splitlines` does. JSON escapes ASCII's control characters; the three
others are escaped here, which means the same to every parser.
"""

from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_LINE_ENDS = {"\x85": b"\\u0085", "\u2028": b"\\u2028", "\u2029": b"\\u2029"}
_ESCAPES = [(end.encode(), escape) for end, escape in _LINE_ENDS.items()]


def quote(value: Any) -> bytes:
    """Return a value as JSON without anything that someone takes for the end of a line."""
    said = _encode(value)
    if said.isascii():
        return said
    for end, escape in _ESCAPES:
        said = said.replace(end, escape)
    return said

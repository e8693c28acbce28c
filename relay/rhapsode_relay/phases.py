"""How far a stream is, as the log tells it. Used by `jobs`, `telling_phases` and the turns. Data."""

from typing import Literal

StreamPhase = Literal[
    "start", "token_streaming", "parse_complete", "writes_start", "writes_complete", "client_disconnect",
    "complete", "error",
]  # fmt: skip
"""`parse_complete`, `writes_start` and `writes_complete` are of turns only."""

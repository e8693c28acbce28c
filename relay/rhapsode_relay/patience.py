"""How long the engine may take for a request that it was given. Called by `timing_out`. Pure.

Waiting in line and for the model to load is not the engine's time. It is looked at about once a second, which is near
enough for limits of seconds and costs the tokens nothing.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Patience(NamedTuple):
    """Seconds to the first token, between tokens, and to the end."""

    first_token_s: float = 600
    idle_s: float = 120
    total_s: float = 3600


class Late(NamedTuple):
    """Which limit is over: the error's code, what took too long, and how long that may take."""

    code: str
    what: str
    limit_s: float


@dataclass
class Course:
    """How far a request is: since when the engine has it, how many tokens there are, and since when."""

    began_at: float
    tokens: int
    moved_at: float

    def look(self, tokens: int, now: float) -> None:
        """See how many tokens there are now."""
        if tokens != self.tokens:
            self.tokens, self.moved_at = tokens, now

    def late(self, patience: Patience, now: float) -> Late | None:
        """Return the limit that is over, if one is."""
        if now - self.began_at >= patience.total_s:
            return Late("total_timeout", "the answer", patience.total_s)
        if not self.tokens and now - self.began_at >= patience.first_token_s:
            return Late("first_token_timeout", "the first token", patience.first_token_s)
        if self.tokens and now - self.moved_at >= patience.idle_s:
            return Late("idle_timeout", "the next token", patience.idle_s)
        return None

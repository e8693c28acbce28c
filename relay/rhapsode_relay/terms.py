"""What was agreed when a job was accepted, and how much narration that allows. Called by `jobs` and by what reads
requests. Pure.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from rhapsode_contract import frames
from rhapsode_contract.requests import InferenceRequest, NarrationOptions, OnDisconnect

UNKNOWN_CONTEXT = 4096
"""Tokens that an answer may have if nothing is said of it while the model loads, and its context is not known."""
MAX_TOKENS = 1_048_576
"""What a request may ask for."""


def longest_answer(context_tokens: int) -> int:
    """Return how many tokens an answer may have if its client does not say: what the context allows."""
    return min(context_tokens or UNKNOWN_CONTEXT, MAX_TOKENS)


@dataclass(frozen=True, kw_only=True)
class JobTerms:
    """What was agreed when the job was accepted. The worker keeps it, so it survives this relay."""

    correlation_id: str
    max_tokens: int
    on_disconnect: OnDisconnect
    style: str | None = None
    level: frames.Level = "info"
    max_rate: float = 20.0
    idempotency_key: str = ""
    body_hash: str = ""
    part: Literal["", "narrative", "intents"] = ""
    """Which generation of a turn this is, if it is one's."""
    note: dict[str, Any] = field(default_factory=dict)
    """What the protocol that it was asked in will want to know of the request; short, since frames hold it."""

    @classmethod
    def of(
        cls,
        request: InferenceRequest,
        correlation_id: str,
        default: OnDisconnect,
        key: str,
        body_hash: str,
        note: dict[str, Any] | None = None,
    ) -> "JobTerms":
        wishes = request.narration or NarrationOptions()
        return cls(
            correlation_id=correlation_id,
            max_tokens=request.max_tokens,
            on_disconnect=request.on_disconnect or default,
            style=wishes.style,
            level=wishes.level,
            max_rate=wishes.max_rate,
            idempotency_key=key,
            body_hash=body_hash,
            note=note or {},
        )

    def note_bytes(self) -> int:
        """Return how much the note is: the relay keeps it for as long as the job."""
        return len(msgspec.json.encode(self.note)) if self.note else 0


@dataclass
class Budget:
    """A token bucket for narration: `rate` a second, and a second's worth at once."""

    rate: float
    left: float = field(init=False)
    at: float = 0.0
    dropped: int = 0

    def __post_init__(self) -> None:
        self.left = max(1.0, self.rate)

    def take(self, now: float) -> bool:
        self.left = min(max(1.0, self.rate), self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            self.dropped += 1
            return False
        self.left -= 1
        return True

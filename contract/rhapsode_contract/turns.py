"""Two-phase turns on the wire: the body of `POST /v1/turns`, and its answer to a client that does not stream.

A client names a contract of the manifest (`outcomes`) and sends inputs; it can never name a URL.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from rhapsode_contract.frames import StopReason
from rhapsode_contract.requests import NarrationOptions
from rhapsode_contract.results import Change, Timing, Usage, Write

MAX_TURN_BYTES = 256 * 1024
"""Largest body of a turn."""
DEFAULT_COUNT = 3
"""Items that are asked of a context source, if the client does not say how many."""


class ContextWish(Struct, kw_only=True, forbid_unknown_fields=True):
    """How many items of a context source a client wants."""

    count: Annotated[int, Meta(ge=1, le=20)] = DEFAULT_COUNT


class TurnRequest(Struct, kw_only=True):
    """One turn. What is not named here is ignored; what is None is as the contract says."""

    contract: Annotated[str, Meta(min_length=1, max_length=63)]
    inputs: dict[str, Any] = {}
    policy: dict[str, Any] = {}
    context: dict[str, bool | ContextWish] = {}
    dry_run: bool = False
    model: str | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_048_576)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    narration: NarrationOptions | None = None

    def wanted(self) -> dict[str, int]:
        """Return the context sources that are to be asked, each with how many items are wanted."""
        asked = {name: wish for name, wish in self.context.items() if wish}
        return {name: wish.count if isinstance(wish, ContextWish) else DEFAULT_COUNT for name, wish in asked.items()}


class TurnResult(Struct, kw_only=True, omit_defaults=True):
    """The whole of a completed turn: what the `end` of its stream says.

    `text_len` and `text_sha256` are of `outcome["narrative"]`, as `end` says them of the streamed text.
    """

    job_id: str
    correlation_id: str
    contract: str
    outcome: dict[str, Any]
    normalized: list[Change]
    writes: list[Write]
    timing: Timing
    usage: Usage
    stop_reason: StopReason
    text_len: int
    text_sha256: str
    dry_run: bool = False

"""What clients of UI protocols may wish beside their messages, by the names of `requests`. For `agui`, `vercel`."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from rhapsode_contract.names import MAX_GRAMMAR_CHARS, MAX_REGEX_CHARS
from rhapsode_contract.requests import NarrationOptions, OnDisconnect, Stop

MAX_MESSAGES = 1024


class Wishes(Struct, kw_only=True):
    """All optional. `narration` false means none; without `max_tokens` an answer is as long as the context allows."""

    model: str | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_048_576)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=4)] | None = None
    json_schema: dict[str, Any] | None = None
    regex: Annotated[str, Meta(min_length=1, max_length=MAX_REGEX_CHARS)] | None = None
    grammar: Annotated[str, Meta(min_length=1, max_length=MAX_GRAMMAR_CHARS)] | None = None
    on_disconnect: OnDisconnect | None = None
    narration: NarrationOptions | bool | None = None
    tools: Any = None
    """Named so that it is refused, and not ignored."""

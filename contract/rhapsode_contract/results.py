"""What a finished job reports: counts and times, and of a turn what was changed and written. Part of `events`."""

from typing import Literal

from msgspec import Struct

ChangeKind = Literal["fallback", "trimmed"]
WriteStatus = Literal["written", "failed", "skipped", "dry_run"]


class Usage(Struct, kw_only=True):
    """OpenAI's token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Timing(Struct, kw_only=True, omit_defaults=True):
    """Milliseconds from acceptance: waiting, to the first token, decoding, all together.

    Of a turn also how long each phase took, and `tokens`, those of its narrative.
    """

    queue_ms: float
    ttft_ms: float | None = None
    decode_ms: float
    total_ms: float
    context_ms: float | None = None
    stream_ms: float | None = None
    intents_ms: float | None = None
    validate_ms: float | None = None
    write_ms: float | None = None
    tokens: int | None = None


class Change(Struct, kw_only=True, omit_defaults=True):
    """One value that normalizing changed, at a concrete JSON pointer into the outcome.

    `source` is the pointer that a fallback came from, absent for a constant; lengths are code points.
    """

    path: str
    what: ChangeKind
    source: str | None = None
    from_length: int | None = None
    to_length: int | None = None


class Write(Struct, kw_only=True, omit_defaults=True):
    """What became of one sink. `reason` says why it failed or was skipped."""

    sink: str
    status: WriteStatus
    ms: float
    http_status: int | None = None
    reason: str = ""

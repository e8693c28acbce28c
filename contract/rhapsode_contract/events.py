"""Events of the SSE stream, as a client decodes them, and the ids that let it resume.

Every event's `data` has `type` (equal to the event's name), `seq`, `job_id` and `correlation_id`; all but
`token` also `ts` (RFC 3339, UTC). Events of the worker's own stream have `worker_id` in place of the two
ids. Readers ignore unknown fields and unknown types. The relay writes tokens without these types, for
speed; `tests/contract` holds both to the same golden file.
"""

import re
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from rhapsode_contract.frames import Caps, Gpu, Level, Phase, StopReason, VramSource
from rhapsode_contract.results import Change as Change  # noqa: PLC0414 (part of events)
from rhapsode_contract.results import Timing as Timing  # noqa: PLC0414 (part of events)
from rhapsode_contract.results import Usage as Usage  # noqa: PLC0414 (part of events)
from rhapsode_contract.results import Write as Write  # noqa: PLC0414 (part of events)

Channel = Literal["narration", "token", "data", "metrics"]
CHANNELS: tuple[Channel, ...] = ("narration", "token", "data", "metrics")
"""What `channels=` can choose from. All other events always come."""

SnapshotReason = Literal["epoch", "evicted", "cursor", "joined"]
JobStatus = Literal["queued", "running", "completed", "cancelled", "failed"]


class EventId(NamedTuple):
    """The id of an event: `<job>-<epoch>-<seq>`, of `[A-Za-z0-9-]` so that browsers send it unasked."""

    stream: str
    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.stream}-{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "EventId | None":
        """Return the id that `text` is, or None if it is none of ours."""
        found = _EVENT_ID.fullmatch(text)
        return cls(found[1], found[2], int(found[3])) if found else None


_EVENT_ID = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]{0,95})-([a-z0-9]{1,16})-([0-9]{1,12})")


class _Event(Struct, tag_field="type", omit_defaults=True):
    seq: int
    job_id: str = ""
    correlation_id: str = ""
    ts: str = ""
    worker_id: str = ""


class Replay(_Event, kw_only=True, tag="replay", rename={"from_": "from"}):
    """First event of a resumed stream: events `from` to `to` follow, then what is new. Uses up no seq."""

    from_: int
    to: int
    gap: bool


class Narrated(Struct, omit_defaults=True, kw_only=True):
    """A narration inside a snapshot."""

    human: str
    action: str = ""
    ts: str = ""


class Snapshot(_Event, kw_only=True, tag="snapshot"):
    """First event of a stream that cannot continue at its cursor: all that a reader needs to go on.

    `text` replaces what the reader has; the next token has `i` = `tokens`. Uses up no seq.
    """

    status: JobStatus
    text: str
    tokens: int
    reason: SnapshotReason
    narration: list[Narrated] = []


class Queued(_Event, kw_only=True, tag="queued"):
    """The request is admitted. `position` others are before it; 0 means that it is next."""

    position: int


class Narration(_Event, kw_only=True, tag="narration"):
    """One sentence for people, with the facts it was made from. `dropped` counts what you did not get."""

    actor: str
    action: str
    human: str
    level: Level
    target: str = ""
    cute: str = ""
    story: str = ""
    progress: float | None = None
    fields: dict[str, Any] = {}
    dropped: int = 0


class Started(_Event, kw_only=True, tag="started"):
    """The engine works on this job. Exactly once, before the first token."""

    model: str
    worker: str
    prompt_tokens: int
    cached_tokens: int | None = None


class Token(_Event, kw_only=True, tag="token"):
    """Text `t` of token number `i`, or of `count` tokens from `i` on. Never empty.

    `logprobs`, where they were asked for, has the log probability of each of the tokens.
    """

    t: str
    i: int
    count: int = 1
    logprobs: tuple[float, ...] = ()


class Data(_Event, kw_only=True, tag="data"):
    """Something structured for programs."""

    action: str
    payload: Any


class Metrics(_Event, kw_only=True, tag="metrics"):
    """How the job is doing; at most one a second, and one before the end."""

    tokens_out: int
    queue_ms: float
    ttft_ms: float | None = None
    tok_s: float | None = None


class End(_Event, kw_only=True, tag="end"):
    """The job is complete. `text_len` counts code points, `text_sha256` is of the UTF-8 text.

    Only a turn has `outcome`, `normalized` and `writes`; its text is the narrative.
    """

    tokens_out: int
    decode_time_ms: float
    stop_reason: StopReason
    usage: Usage
    timing: Timing
    text_len: int
    text_sha256: str
    outcome: dict[str, Any] | None = None
    normalized: list[Change] | None = None
    writes: list[Write] | None = None


class ErrorBody(Struct, kw_only=True, omit_defaults=True):
    """What went wrong, in OpenAI's words: `code` is stable, `message` is for people, `param` names a field.

    `partial` says whether text was streamed before; it is absent where there is no stream.
    """

    message: str
    type: str
    code: str
    param: str | None = None
    partial: bool | None = None


class Error(_Event, kw_only=True, tag="error"):
    """The job failed or was cancelled. `retryable`: the same request may succeed later."""

    error: ErrorBody
    retryable: bool
    retry_after_ms: int | None = None


class Done(_Event, kw_only=True, tag="done"):
    """Nothing follows: close. A reconnect is answered with 204."""


class Load(_Event, kw_only=True, tag="load"):
    """Worker stream: loading got this far."""

    stage: str
    percent: float | None = None
    eta_s: float | None = None
    ready_in_s: float | None = None


class State(_Event, kw_only=True, tag="state"):
    """Worker stream: the worker entered `phase`."""

    phase: Phase
    reason: str = ""
    message: str = ""


class Vram(_Event, kw_only=True, tag="vram"):
    """Worker stream: what the GPUs hold; only the latest matters."""

    source: VramSource
    gpus: list[Gpu] = []


class LoadState(Struct, omit_defaults=True, kw_only=True):
    """How far loading is, and since when (RFC 3339)."""

    stage: str
    since: str
    percent: float | None = None
    eta_s: float | None = None
    ready_in_s: float | None = None


class VramState(Struct, omit_defaults=True, kw_only=True):
    """The latest VRAM frame and when it came."""

    source: VramSource
    observed_at: str
    gpus: list[Gpu] = []


class Worker(_Event, kw_only=True, tag="worker"):
    """First event of the worker's stream, and the body of `GET /v1/worker`: how the worker is now."""

    phase: Phase
    engine: str = ""
    model: str = ""
    boot_id: str = ""
    epoch: str = ""
    style: str = "human"
    reason: str = ""
    message: str = ""
    caps: Caps | None = None
    load: LoadState | None = None
    vram: VramState | None = None
    running: int
    queued: int
    kv_used: int | None = None
    kv_total: int | None = None
    narration: Narrated | None = None


StreamEvent = (
    Replay | Snapshot | Queued | Narration | Started | Token | Data | Metrics | End | Error | Done
    | Load | State | Vram | Worker
)  # fmt: skip


class Links(Struct, kw_only=True):
    """Where a job is to be found. Paths, so that they hold behind any gateway."""

    self: str
    stream: str
    cancel: str


class Accepted(Struct, kw_only=True):
    """Body of a 202."""

    job_id: str
    status: JobStatus
    sse_url: str
    links: Links


class JobView(Struct, kw_only=True, omit_defaults=True):
    """Body of `GET` and `DELETE /v1/inference/{id}`: how a job is now. Of a turn also its `contract` and its end."""

    job_id: str
    correlation_id: str
    status: JobStatus
    seq: int
    text: str
    tokens_out: int
    text_len: int
    text_sha256: str
    stop_reason: StopReason | None = None
    error: ErrorBody | None = None
    links: Links
    contract: str = ""
    outcome: dict[str, Any] | None = None
    normalized: list[Change] | None = None
    writes: list[Write] | None = None
    timing: Timing | None = None


class ErrorResponse(Struct, kw_only=True):
    """Body of every HTTP error."""

    error: ErrorBody
    correlation_id: str
    retryable: bool

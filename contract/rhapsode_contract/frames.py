"""Frames of the worker socket: newline-delimited JSON, UTF-8, one frame a line.

The relay listens; the worker and anyone else in the pod connect. The first frame of the worker is `hello`; who never
says it may only narrate. Readers ignore unknown fields, so a worker and a relay may be a version apart; what we write
is pinned by `tests/contract/golden/frames.ndjson`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from rhapsode_contract.tools import Tool, ToolCall

PROTO = 1
"""Version of this protocol; a relay refuses a `hello` of another one."""

TOKEN_SEPARATOR = "\x7f"  # noqa: S105 (a byte, not a secret)
"""Stands between the texts of `Token.ts`: DEL is one byte of UTF-8, and JSON leaves it unescaped."""

Level = Literal["debug", "info", "warn", "error"]
Phase = Literal["starting", "loading", "ready", "draining", "failed", "lost"]
StopReason = Literal["stop", "length", "cancelled"]
VramSource = Literal["nvml", "none", "unsupported"]

JobId = Annotated[str, Meta(max_length=96, pattern=r"^[A-Za-z0-9-]+\Z")]
Word = Annotated[str, Meta(max_length=64)]
Progress = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class _Frame(Struct, tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """Base of every frame: tagged by `type`."""


class Caps(Struct, omit_defaults=True, kw_only=True):
    """What the engine can do. `slots` requests run at once; `context_tokens` bounds prompt and answer.

    The others are the kinds of `guides` that it keeps to, and whether it has calls of `tools`, penalties, `logprobs`.
    """

    slots: Annotated[int, Meta(ge=1, le=4096)] = 1
    context_tokens: Count = 0
    json_schema: bool = False
    regex: bool = False
    grammar: bool = False
    tools: bool = False
    penalties: bool = False
    logprobs: bool = False


class JobState(Struct, omit_defaults=True, kw_only=True):
    """A job that a worker still holds when it meets a relay: `tokens` tokens whose text is `text`.

    Of a text too long for one frame, or with `lp`, token frames bring the rest. `meta` is what came with `generate`.
    """

    job_id: JobId
    text: str = ""
    tokens: Count = 0
    meta: dict[str, Any] = {}


class Hello(_Frame, tag="hello"):
    """First frame of the worker. Each process has its `boot_id`; `resumes` is how many `resume` frames follow."""

    proto: int
    boot_id: Word
    engine: Word
    model: str
    worker: Word = ""
    caps: Caps = msgspec.field(default_factory=Caps)
    jobs: list[JobState] = []
    resumes: Count = 0


class Resume(_Frame, tag="resume"):
    """Soon after `hello`: a job that did not fit into it."""

    job: JobState


class State(_Frame, tag="state"):
    """The worker entered `phase`. `reason` is a stable word, `message` says what a person can do."""

    phase: Phase
    reason: Word = ""
    message: str = ""
    caps: Caps | None = None


class Load(_Frame, tag="load"):
    """How far loading is: `percent` of `stage` if it can be measured, `eta_s` seconds left of it if that is known.

    `ready_in_s` is what is left of the whole load, where an earlier one told how long each stage takes.
    """

    stage: Word
    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    eta_s: Annotated[float, Meta(ge=0)] | None = None
    ready_in_s: Annotated[float, Meta(ge=0)] | None = None


class Narration(_Frame, tag="narration"):
    """One sentence about what is happening, with the facts it was made from in `fields`.

    `dropped` counts narrations that a busy sender left out before this one. A `table` may hold newlines and tabs; any
    other sentence is one line. `ts` is set on what was said before this relay came.
    """

    human: str
    action: Word = "note"
    actor: Word = ""
    target: str = ""
    level: Level = "info"
    cute: str = ""
    story: str = ""
    progress: Progress | None = None
    fields: dict[str, Any] = {}
    job_id: JobId | None = None
    dropped: int = 0
    table: bool = False
    ts: str = ""


class Data(_Frame, tag="data"):
    """Something structured for programs; a job's readers get it, or everyone who watches the worker."""

    action: Word
    payload: Any
    job_id: JobId | None = None


class Gpu(Struct, omit_defaults=True, kw_only=True):
    """One GPU, or one MIG instance (`mig`), as NVML sees it. What the driver does not tell is absent.

    `used_bytes` leaves out what the driver keeps for itself if that is known (`reserved_bytes`), else includes it.
    `utilization` is 0 to 1. A GPU that is not `healthy` says in `trouble` why it cannot be asked; its sizes are
    then the last that were measured. `xid` is the last error that its driver reported.
    """

    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    reserved_bytes: int | None = None
    utilization: float | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    throttle: list[Word] = []
    healthy: bool = True
    trouble: str = ""
    xid: int | None = None
    mig: bool = False


class Vram(_Frame, tag="vram"):
    """What the worker's GPUs hold. `source`: `none` if NVML cannot be asked, `unsupported` if it tells no memory."""

    source: VramSource
    gpus: list[Gpu] = []


class Stats(_Frame, tag="stats"):
    """How busy the engine is. Also the answer to `ping`. Blocks of its KV cache are told where it tells them."""

    active: int = 0
    queued: int = 0
    tokens_total: int = 0
    kv_used: Count | None = None
    kv_total: Count | None = None


class Prefill(_Frame, tag="prefill"):
    """The engine took the job: its prompt is `prompt_tokens` long, `cached_tokens` of them were in the cache."""

    job_id: JobId
    prompt_tokens: Count
    cached_tokens: Count | UnsetType = UNSET


class Token(_Frame, tag="token"):
    """Text of a job, from token number `i` on; `lp`, if asked for, is the log probability of each token of `t`.

    Either `t`, the text of `count` tokens that only make sense together, or `ts`, several tokens of one
    text each, separated by `TOKEN_SEPARATOR`: a busy worker joins adjacent frames and loses nothing.
    """

    job_id: str
    i: int
    t: str = ""
    ts: str = ""
    count: int = 1
    lp: tuple[float, ...] = ()


class Finish(_Frame, tag="finish"):
    """The job is complete. Times are the engine's own, in milliseconds."""

    job_id: JobId
    stop_reason: StopReason
    tokens_out: Count
    prompt_tokens: Count = 0
    cached_tokens: Count | UnsetType = UNSET
    ttft_ms: float = 0
    decode_time_ms: float = 0


class Error(_Frame, tag="error"):
    """The job failed. `retryable` says whether the same request may succeed later."""

    job_id: JobId
    code: Word
    message: str
    param: str | None = None
    retryable: bool = False


class Message(Struct, omit_defaults=True, kw_only=True):
    """One chat message: of a tool, the result of the call `tool_call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: list[ToolCall] = []
    tool_call_id: str = ""
    name: str = ""


class Generate(_Frame, tag="generate"):
    """Relay → worker: run this job. Exactly one of `prompt` and `messages` is set, and one guide at most."""

    job_id: JobId
    max_tokens: int
    correlation_id: str
    prompt: str | None = None
    messages: list[Message] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    logprobs: bool = False
    stop: list[str] = []
    json_schema: dict[str, Any] | None = None
    regex: str | None = None
    grammar: str | None = None
    tools: list[Tool] = []
    meta: dict[str, Any] = {}


class Cancel(_Frame, tag="cancel"):
    """Relay → worker: stop this job; answered by `finish` with `stop_reason: cancelled`."""

    job_id: JobId
    reason: str = ""


class Drain(_Frame, tag="drain"):
    """Relay → worker: finish what runs within `deadline_s` seconds and take nothing new."""

    deadline_s: float


class Ping(_Frame, tag="ping"):
    """Relay → worker: answer with `stats`."""


class Refused(_Frame, tag="refused"):
    """Relay → whoever connected: why this connection may not be the worker's. The relay then closes it."""

    reason: str


WorkerFrame = Hello | Resume | State | Load | Narration | Data | Vram | Stats | Prefill | Token | Finish | Error
RelayFrame = Generate | Cancel | Drain | Ping | Refused
_encoder = msgspec.json.Encoder()


class Note(Struct, omit_defaults=True, kw_only=True):
    """A line of someone who only narrates: a narration, or `data` when it has a payload. `type` is optional."""

    human: str = ""
    action: Word = "note"
    actor: Word = ""
    target: str = ""
    level: Level = "info"
    cute: str = ""
    story: str = ""
    progress: Progress | None = None
    fields: dict[str, Any] = {}
    payload: Any = None
    table: bool = False
    type: str = "narration"


def encode_frame(frame: WorkerFrame | RelayFrame | Note) -> bytes:
    """Return the frame as one line, newline included."""
    return _encoder.encode(frame) + b"\n"

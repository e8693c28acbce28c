"""Parameters and answers that several routes share. Called by the tables. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from rhapsode_contract import events, names
from rhapsode_relay.openapi.operations import Answer, Parameter, Stream

CORRELATION_PATTERN = rf"^{names.CORRELATION_ID.pattern}$"

JobEvent = (
    events.Replay | events.Snapshot | events.Queued | events.Narration | events.Started | events.Token | events.Data
    | events.Metrics | events.End | events.Error | events.Done
)  # fmt: skip
WorkerEvent = events.Worker | events.State | events.Load | events.Vram | events.Narration | events.Data
JOB_STREAM = Stream("JobEvent", (JobEvent,))
WORKER_STREAM = Stream("WorkerEvent", (WorkerEvent,))


class AguiEvent(Struct):
    """An event of AG-UI; narration is `CUSTOM` with `name: "narration"`. See docs.ag-ui.com."""

    type: str


class VercelPart(Struct):
    """A part of Vercel's UI message stream v1; narration is `data-narration`. See ai-sdk.dev."""

    type: str


AGUI_STREAM = Stream("AguiStream", (AguiEvent,), is_named=False, has_ids=False)
VERCEL_STREAM = Stream("VercelStream", (VercelPart,), is_named=False, has_ids=False, last_words="[DONE]")
FORMATS = {"agui": AGUI_STREAM, "vercel": VERCEL_STREAM}

JOB_ID = Parameter("id", "path", "The job's id.", {"type": "string", "minLength": 1}, "sim-7r00mh92yqd476h0", True)
CORRELATION = Parameter(
    "X-Correlation-Id",
    "header",
    "Names this request in events, answers and the log; else X-Request-Id, else traceparent, else a new one.",
    {"type": "string"},
    "turn-7",
)
IDEMPOTENCY = Parameter(
    "Idempotency-Key",
    "header",
    "The same key and body is the same job; the same key with another body is refused.",
    {"type": "string", "maxLength": 255, "pattern": "^[ -~]*$"},
    "8f14e45f",
)
CHANNELS = Parameter(
    "channels",
    "query",
    f"Which events come, separated by commas: {', '.join(events.CHANNELS)}. All others always come.",
    {"type": "string", "pattern": rf"^ *(({'|'.join(events.CHANNELS)})? *, *)*({'|'.join(events.CHANNELS)})? *$"},
    "token,narration",
)
LAST_EVENT_ID = Parameter(
    "Last-Event-ID",
    "header",
    "The id of the last event that you have.",
    {"type": "string"},
    "sim-7r00mh92-mwpxryow-6",
)
LAST_EVENT_ID_ASKED = Parameter(
    "last_event_id", "query", "The same, for a page that cannot set a header.", {"type": "string"}
)
AFTER = Parameter(
    "after",
    "query",
    "The seq of the last event that you have; Last-Event-ID wins.",
    {"type": "integer", "minimum": 0, "maximum": 10**12 - 1},
    6,
)
FORMAT = Parameter(
    "format",
    "query",
    "The protocol of the stream; in another than `native` it begins at the start.",
    {"type": "string", "enum": ["native", *FORMATS]},
    "native",
)
RESUMING = (CHANNELS, LAST_EVENT_ID, LAST_EVENT_ID_ASKED, AFTER)

JOB_STREAMED = Answer(
    200, "The job's events, to its end.", stream=JOB_STREAM, headers=("X-Job-Id", "X-Replay", "Link"), formats=FORMATS
)
ACCEPTED = Answer(202, "It is taken, and goes on by itself.", events.Accepted, headers=("X-Job-Id", "Location"))
BAD_BODY = "invalid_json invalid_request unsupported"
BUSY = "queue_full draining worker_loading worker_failed buffer_exhausted too_many_readers owner_unreachable"
ASKING: Mapping[int, str] = {
    400: BAD_BODY,
    404: "model_not_found",
    421: "misdirected",
    422: "idempotency_key_reused",
    502: "owner_unreachable",
    503: BUSY,
}
"""Refusals of every request that becomes a job."""
FAILING: Mapping[int, str] = {
    400: "context_length_exceeded empty_prompt invalid_prompt invalid_json_schema invalid_regex invalid_grammar",
    409: "cancelled",
    500: "out_of_kv_cache cuda_out_of_memory engine_error",
    503: "worker_lost engine_crashed server_shutdown out_of_kv_cache cuda_out_of_memory engine_error "
    "first_token_timeout idle_timeout total_timeout",
}
"""What else is an error's status where the answer waits for the job."""


def merged(*refusals: Mapping[int, str]) -> dict[int, str]:
    """Return all codes of several tables, by status."""
    found: dict[int, str] = {}
    for table in refusals:
        for status, codes in table.items():
            found[status] = f"{found[status]} {codes}" if status in found else codes
    return found

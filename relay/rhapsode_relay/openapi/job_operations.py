"""The routes of jobs: asking, reading, looking, cancelling. Called by `documenting`. Pure."""

from rhapsode_contract import events
from rhapsode_contract.requests import InferenceRequest
from rhapsode_contract.turns import TurnRequest, TurnResult
from rhapsode_relay.openapi.operations import Answer, Operation, Parameter
from rhapsode_relay.openapi.parameters import (
    ACCEPTED,
    ASKING,
    BUSY,
    CHANNELS,
    CORRELATION,
    CORRELATION_PATTERN,
    FAILING,
    FORMAT,
    FORMATS,
    IDEMPOTENCY,
    JOB_ID,
    JOB_STREAM,
    JOB_STREAMED,
    LAST_EVENT_ID,
    RESUMING,
    merged,
)

_FINDING = {400: "invalid_request", 404: "job_not_found", 410: "job_lost", 421: "misdirected", 503: BUSY}
_READING = _FINDING | {400: "invalid_request invalid_cursor"}
_QUESTION = {"prompt": "Why is the sky blue?", "max_tokens": 8}
_TURN = {"contract": "scene", "inputs": {"place": "a harbour"}}
_PREFER = Parameter("Prefer", "header", "`respond-async`: do not wait.", example="respond-async")
_WANTED = Parameter(
    "id", "path", "The correlation id.", {"type": "string", "pattern": CORRELATION_PATTERN}, "turn-7", True
)
_VIEW = Answer(200, "How the job is now.", events.JobView, headers=("X-Job-Id",))

_ASKING = (
    Operation(
        "post", "/v1/inference", "ask", "Jobs", "Ask for a text",
        (JOB_STREAMED, ACCEPTED),
        "With `Accept: text/event-stream` the answer is the stream at once, else 202 with where to find it.",
        (CORRELATION, IDEMPOTENCY, FORMAT), InferenceRequest, _QUESTION, ASKING,
    ),
    Operation(
        "post", "/execute", "askStreaming", "Jobs", "Ask for a text, and stream it whatever is accepted",
        (JOB_STREAMED,), "", (CORRELATION, IDEMPOTENCY, FORMAT), InferenceRequest, _QUESTION, ASKING,
    ),
    Operation(
        "post", "/v1/turns", "takeTurn", "Turns", "Ask for a story and its intents, validated and written",
        (
            Answer(
                200, "All of it once written; or its events.", TurnResult, JOB_STREAM,
                headers=("X-Job-Id",), formats=FORMATS,
            ),
            ACCEPTED,
        ),
        "With `Accept: text/event-stream` its events, with `Prefer: respond-async` 202, else all of it.",
        (CORRELATION, IDEMPOTENCY, _PREFER, FORMAT),
        TurnRequest, _TURN,
        merged(ASKING, FAILING, {
            400: "invalid_inputs",
            404: "contract_not_found",
            422: "outcome_invalid narrative_too_long",
            424: "context_required",
            502: "sink_required_failed",
            503: "turns_full",
            504: "timeout",
        }),
    ),
)  # fmt: skip

_READING_JOBS = (
    Operation(
        "get", "/v1/inference/{id}/stream", "readJob", "Jobs", "Read a job, from the start or from where you were",
        (JOB_STREAMED, Answer(204, "You have everything: do not come back.")),
        "A cursor that cannot be honoured is answered with a `snapshot` of the whole text.",
        (JOB_ID, *RESUMING, FORMAT), refusals=_READING, takes_ticket=True,
    ),
    Operation(
        "get", "/v1/inference/{id}/ws", "readJobBySocket", "Jobs", "Read a job over a WebSocket",
        (Answer(101, "A WebSocket; its messages are as `x-rhapsode-messages` says, later errors are close codes."),),
        'All that can be said is `{"last_event_id": "ID"}`, once.',
        (JOB_ID, *RESUMING), refusals={426: "upgrade_required"}, takes_ticket=True, messages=JOB_STREAM,
    ),
    Operation(
        "get", "/v1/inference/{id}", "showJob", "Jobs", "Look at a job",
        (_VIEW,), "", (JOB_ID,), refusals=_FINDING, takes_ticket=True,
    ),
    Operation(
        "delete", "/v1/inference/{id}", "cancelJob", "Jobs", "Cancel a job, as often as you like",
        (_VIEW,), "", (JOB_ID,), refusals=_FINDING | {409: "turn_writing"},
    ),
    Operation(
        "get", "/v1/correlations/{id}/stream", "readCorrelation", "Jobs", "Read every job of a correlation id",
        (Answer(200, "The events of those jobs, also of those to come; never ends by itself.", stream=JOB_STREAM),),
        "",
        (_WANTED, CHANNELS, LAST_EVENT_ID),
        refusals={400: "invalid_request", 421: "misdirected", 503: "too_many_readers"}, takes_ticket=True,
    ),
)  # fmt: skip

OPERATIONS = _ASKING + _READING_JOBS

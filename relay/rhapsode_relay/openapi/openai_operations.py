"""The routes of OpenAI's clients. Called by `documenting`. Pure."""

from rhapsode_contract import openai, openai_responses
from rhapsode_relay.openapi.operations import Answer, Operation, Parameter, Stream
from rhapsode_relay.openapi.parameters import ASKING, BAD_BODY, CORRELATION, FAILING, IDEMPOTENCY, merged

_CHAT_STREAM = Stream(
    "ChatStream", (openai.ChatChunk, openai.StreamError), is_named=False, has_ids=False, last_words="[DONE]"
)
_TEXT_STREAM = Stream(
    "TextStream", (openai.CompletionChunk, openai.StreamError), is_named=False, has_ids=False, last_words="[DONE]"
)
_RESPONSE_STREAM = Stream("ResponseEvent", (openai_responses.ResponseEvent,), has_ids=False)
_NARRATION = Parameter(
    "X-Narration",
    "header",
    "How narration comes in the stream; the body's `narration` wins.",
    {"type": "string", "enum": ["off", "chunk", "openwebui", "reasoning", "comment"]},
    "chunk",
)
_BEGINNING = merged(ASKING, FAILING, {400: BAD_BODY})
_JOB = ("X-Job-Id",)
_MODEL_ID = Parameter("id", "path", "The model's name.", {"type": "string", "minLength": 1}, "sim", True)
_RESPONSE_ID = Parameter(
    "id", "path", "The response's id.", {"type": "string", "minLength": 1}, "resp_sim-7r00mh92yqd476h0", True
)
_READING = {
    404: "response_not_found",
    410: "job_lost",
    421: "misdirected",
    503: "draining owner_unreachable too_many_readers",
}
_RESPONSE = Answer(200, "The response as it is now.", openai_responses.Response)

OPERATIONS = (
    Operation(
        "post", "/v1/chat/completions", "createChatCompletion", "OpenAI", "Answer a conversation",
        (Answer(200, "The answer; or its chunks.", openai.ChatCompletion, _CHAT_STREAM, headers=_JOB),),
        "What would silently change the answer is refused as `unsupported`, by name.",
        (CORRELATION, IDEMPOTENCY, _NARRATION), openai.ChatRequest,
        {"messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 8}, _BEGINNING,
    ),
    Operation(
        "post", "/v1/completions", "createCompletion", "OpenAI", "Go on from a prompt",
        (Answer(200, "The text; or its chunks.", openai.Completion, _TEXT_STREAM, headers=_JOB),),
        "", (CORRELATION, IDEMPOTENCY, _NARRATION), openai.CompletionRequest,
        {"prompt": "Once upon a time", "max_tokens": 8}, _BEGINNING,
    ),
    Operation(
        "post", "/v1/responses", "createResponse", "OpenAI", "Make a response",
        (
            Answer(
                200, "The response: over, or with `background: true` begun; with `stream: true` its events.",
                openai_responses.Response, _RESPONSE_STREAM, headers=_JOB,
            ),
        ),
        "", (CORRELATION, IDEMPOTENCY), openai_responses.ResponseRequest,
        {"input": "Why is the sky blue?", "max_output_tokens": 8},
        merged(_BEGINNING, {410: "replay_window_exceeded"}),
    ),
    Operation(
        "get", "/v1/responses/{id}", "showResponse", "OpenAI", "Look at a response, or read its events again",
        (Answer(200, "How it is now; or its events.", openai_responses.Response, _RESPONSE_STREAM),),
        "",
        (
            _RESPONSE_ID,
            Parameter("stream", "query", "Whether to stream.", {"type": "boolean"}, False),
            Parameter(
                "starting_after", "query", "The `sequence_number` of the last event that you have.",
                {"type": "integer", "minimum": 0, "maximum": 10**12 - 1}, 3,
            ),
        ),
        refusals=merged(_READING, {400: "invalid_request invalid_cursor", 410: "replay_window_exceeded"}),
    ),
    Operation(
        "post", "/v1/responses/{id}/cancel", "cancelResponse", "OpenAI", "Cancel a response of the background",
        (_RESPONSE,), "", (_RESPONSE_ID,), refusals=merged(_READING, {400: "not_in_background"}),
    ),
    Operation(
        "delete", "/v1/responses/{id}", "deleteResponse", "OpenAI", "Refused: a response is forgotten by itself",
        (), "", (_RESPONSE_ID,), refusals={400: "unsupported", 404: "response_not_found"},
    ),
    Operation(
        "get", "/v1/models", "listModels", "OpenAI", "List the model that is served",
        (Answer(200, "One model.", openai.Models),),
    ),
    Operation(
        "get", "/v1/models/{id}", "showModel", "OpenAI", "Look at the model that is served",
        (Answer(200, "It.", openai.Model),), "", (_MODEL_ID,), refusals={404: "model_not_found"},
    ),
)  # fmt: skip

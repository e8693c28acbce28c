"""The routes of UI protocols. What their streams say is theirs to describe. Called by `documenting`. Pure."""

from rhapsode_contract.agui import RunAgentInput
from rhapsode_contract.vercel import ChatRequest
from rhapsode_relay.openapi.operations import Answer, Operation, Parameter
from rhapsode_relay.openapi.parameters import (
    AGUI_STREAM,
    ASKING,
    BAD_BODY,
    CORRELATION,
    IDEMPOTENCY,
    VERCEL_STREAM,
    merged,
)

_CHAT_ID = Parameter("id", "path", "The chat's id.", {"type": "string", "minLength": 1}, "chat-7", True)
_RUN = {
    "threadId": "thread-7",
    "runId": "run-1",
    "messages": [{"id": "1", "role": "user", "content": "Why is the sky blue?"}],
    "forwardedProps": {"max_tokens": 8},
}
_CHAT = {
    "id": "chat-7",
    "trigger": "submit-message",
    "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "Why is the sky blue?"}]}],
    "max_tokens": 8,
}
_BEGINNING = merged(ASKING, {400: BAD_BODY})

OPERATIONS = (
    Operation(
        "post", "/v1/agui", "runAgent", "UI protocols", "Run an agent, as AG-UI's HttpAgent does",
        (Answer(200, "The run's events.", stream=AGUI_STREAM),), "The thread is the job's correlation id.",
        (CORRELATION, IDEMPOTENCY), RunAgentInput, _RUN, _BEGINNING,
    ),
    Operation(
        "post", "/v1/vercel/chat", "chat", "UI protocols", "Go on with a chat, as Vercel's useChat does",
        (Answer(200, "The message's parts.", stream=VERCEL_STREAM),), "The chat is the job's correlation id.",
        (CORRELATION, IDEMPOTENCY), ChatRequest, _CHAT, _BEGINNING,
    ),
    Operation(
        "get", "/v1/vercel/chat/{id}/stream", "resumeChat", "UI protocols", "Read the message that a chat is getting",
        (
            Answer(200, "All of the message.", stream=VERCEL_STREAM),
            Answer(204, "The chat is getting no message."),
        ),
        "", (_CHAT_ID,), refusals={421: "misdirected", 503: "too_many_readers owner_unreachable"},
    ),
    Operation(
        "delete", "/v1/vercel/chat/{id}", "stopChat", "UI protocols", "Stop the message that a chat is getting",
        (Answer(204, "It is stopped, or there was none."),), "", (_CHAT_ID,),
        refusals={421: "misdirected", 503: "owner_unreachable"},
    ),
)  # fmt: skip

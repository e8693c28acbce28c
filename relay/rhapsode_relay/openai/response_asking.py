"""Turn what is asked of OpenAI's Responses API into a request of ours. Called by its routes. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from rhapsode_contract.openai_responses import InputItem, ResponseRequest, TextFormat
from rhapsode_contract.requests import ChatMessage, InferenceRequest
from rhapsode_contract.tools import FunctionCall, ToolCall
from rhapsode_relay.errors import BadRequest, unsupported
from rhapsode_relay.openai.asking import ANY_OBJECT, SEEDS, read_text
from rhapsode_relay.openai.refusing import NO_LOGPROBS, Check, absent, refuse, zero
from rhapsode_relay.openai.response_states import Note
from rhapsode_relay.openai.tool_asking import ONLY_TEXT, Offer, offer_of_response
from rhapsode_relay.terms import longest_answer

MAX_NOTE_BYTES = 16 * 1024
"""What a response may repeat of its request; the worker sends it in a frame when a relay comes back."""
_NO_MEMORY = "this worker remembers no conversation; send all of it as 'input'"


def _asks_no_logprobs(value: Any) -> bool:
    return not isinstance(value, list) or "message.output_text.logprobs" not in value


_REFUSED: Mapping[str, tuple[Check, str]] = {
    "previous_response_id": (absent, _NO_MEMORY),
    "conversation": (absent, _NO_MEMORY),
    "prompt": (absent, "this worker keeps no prompts; send the text as 'input'"),
    "top_logprobs": (zero, NO_LOGPROBS),
    "include": (_asks_no_logprobs, NO_LOGPROBS),
}


def ask_response(wanted: ResponseRequest, context_tokens: int) -> InferenceRequest:
    """Return the request for a response. Raises BadRequest."""
    refuse(wanted, _REFUSED)
    offer = offer_of_response(wanted)
    return InferenceRequest(
        model=wanted.model,
        messages=_read_input(wanted),
        max_tokens=wanted.max_output_tokens or longest_answer(context_tokens),
        temperature=wanted.temperature,
        top_p=wanted.top_p,
        top_k=wanted.top_k,
        seed=None if wanted.seed is None else wanted.seed % SEEDS,
        stop=wanted.stop,
        json_schema=offer.schema or _schema_beside(offer, wanted.text.format if wanted.text else None),
        tools=offer.tools,
        on_disconnect="continue" if wanted.background else "cancel",
    )


def note_of(wanted: ResponseRequest, now: float) -> dict[str, Any]:
    """Return what the job's terms are to keep of the request. Raises BadRequest."""
    note = Note.of(wanted, now, offer_of_response(wanted).calling).written()
    if len(msgspec.json.encode(note)) > MAX_NOTE_BYTES:
        raise BadRequest(f"metadata: it may take {MAX_NOTE_BYTES} bytes with all of its names", param="metadata")
    return note


def _read_input(wanted: ResponseRequest) -> list[ChatMessage]:
    told = [] if wanted.instructions is None else [ChatMessage(role="system", content=wanted.instructions)]
    if isinstance(wanted.input, str):
        return [*told, ChatMessage(role="user", content=wanted.input)]
    for at, item in enumerate(wanted.input):
        _read_item(item, f"input[{at}]", told)
    return told


def _read_item(item: InputItem, where: str, told: list[ChatMessage]) -> None:
    """Add what an item says to what was told; calls are part of the message before them."""
    if item.type == "function_call_output":
        if not item.call_id:
            raise BadRequest(f"{where}.call_id: say of which call this is the output", param=f"{where}.call_id")
        output = read_text(item.output, f"{where}.output")
        told.append(ChatMessage(role="tool", content=output, tool_call_id=item.call_id))
    elif item.type == "function_call":
        if not told or told[-1].role != "assistant":
            told.append(ChatMessage(role="assistant", content=None))
        told[-1].tool_calls = [*told[-1].tool_calls, _read_call(item, where)]
    elif item.type == "message":
        told.append(_read_message(item, where))
    else:
        raise unsupported(f"{where}.type", f"this worker reads messages and calls, and no {item.type[:40]!r}")


def _read_call(item: InputItem, where: str) -> ToolCall:
    if item.name is None:
        raise BadRequest(f"{where}.name: say what was called", param=f"{where}.name")
    return ToolCall(id=item.call_id, function=FunctionCall(name=item.name, arguments=item.arguments))


def _read_message(item: InputItem, where: str) -> ChatMessage:
    if item.role is None:
        raise BadRequest(f"{where}.role: say whose message it is", param=f"{where}.role")
    role = "system" if item.role == "developer" else item.role
    return ChatMessage(role=role, content=read_text(item.content, f"{where}.content"))


def _schema_beside(offer: Offer, form: TextFormat | None) -> dict[str, Any] | None:
    schema = _schema_of(form)
    if schema is not None and offer.tools:
        raise unsupported("text.format", ONLY_TEXT)
    return schema


def _schema_of(form: TextFormat | None) -> dict[str, Any] | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return ANY_OBJECT
    if not isinstance(form.schema, dict):
        param = "text.format.schema"
        raise BadRequest(f"{param}: give the schema that the answer must keep to", param=param)
    return form.schema

"""Turn what an OpenAI client asks into a request of ours. Called by the routes of OpenAI's endpoints. Pure."""

from typing import Any

from rhapsode_contract.openai import ChatRequest, CompletionRequest, ContentPart, Message, ResponseFormat
from rhapsode_contract.requests import ChatMessage, InferenceRequest
from rhapsode_relay.errors import BadRequest, unsupported
from rhapsode_relay.openai.refusing import refuse_chat, refuse_text
from rhapsode_relay.openai.tool_asking import ONLY_TEXT, Offer, offer_of
from rhapsode_relay.openai.tool_calls import NEVER
from rhapsode_relay.terms import longest_answer

TEXT_TOKENS = 16
"""OpenAI's own default for completions."""
_TEXT_KINDS = ("text", "input_text", "output_text")
ANY_OBJECT = {"type": "object"}
SEEDS = 2**63


def ask_chat(wanted: ChatRequest, context_tokens: int) -> InferenceRequest:
    """Return the request for a conversation's next message. Raises BadRequest."""
    refuse_chat(wanted)
    offer = offer_of(wanted)
    limit = wanted.max_completion_tokens or wanted.max_tokens or longest_answer(context_tokens)
    if wanted.logprobs and offer.calling != NEVER:
        raise unsupported("logprobs", "what may be a call of a tool has none; leave it out, or the tools")
    return InferenceRequest(
        messages=[read_message(message, f"messages[{at}]") for at, message in enumerate(wanted.messages)],
        max_tokens=limit,
        json_schema=offer.schema or _schema_beside(offer, wanted.response_format),
        tools=offer.tools,
        **_sampling(wanted),
    )


def ask_text(wanted: CompletionRequest) -> InferenceRequest:
    """Return the request for what follows a prompt. Raises BadRequest."""
    refuse_text(wanted)
    return InferenceRequest(
        prompt=_one_prompt(wanted.prompt),
        max_tokens=wanted.max_tokens or TEXT_TOKENS,
        **_sampling(wanted),
    )


def wants_logprobs(wanted: ChatRequest | CompletionRequest) -> bool:
    """Return whether probabilities are asked for: a text asks for those of its chosen tokens with a 0."""
    return wanted.logprobs is not None and wanted.logprobs is not False


def read_message(message: Message, where: str) -> ChatMessage:
    """Return a message as models know it. Raises BadRequest; `where` names it."""
    role = "system" if message.role == "developer" else message.role
    return ChatMessage(
        role=role,
        content=read_text(message.content, f"{where}.content"),
        tool_calls=message.tool_calls or [],
        tool_call_id=message.tool_call_id or "",
        name=message.name or "",
    )


def read_text(content: str | list[ContentPart] | None, where: str) -> str:
    """Return the text of a message's content, whose parts are joined. Raises BadRequest."""
    if content is None or isinstance(content, str):
        return content or ""
    for at, part in enumerate(content):
        if part.type not in _TEXT_KINDS:
            raise unsupported(f"{where}[{at}].type", f"this worker reads text only, and no {part.type[:40]!r}")
    return "".join(part.text for part in content)


def schema_of(form: ResponseFormat | None) -> dict[str, Any] | None:
    """Return the JSON schema that the answer must keep to, if any. Raises BadRequest."""
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return ANY_OBJECT
    if form.json_schema is None:
        param = "response_format.json_schema"
        raise BadRequest(f"{param}: give the schema that the answer must keep to", param=param)
    return form.json_schema.schema or ANY_OBJECT


def _schema_beside(offer: Offer, form: ResponseFormat | None) -> dict[str, Any] | None:
    """Return what the text must keep to, which leaves no room for a call. Raises BadRequest."""
    schema = schema_of(form)
    if schema is not None and offer.tools:
        raise unsupported("response_format", ONLY_TEXT)
    return schema


def _sampling(wanted: ChatRequest | CompletionRequest) -> dict[str, Any]:
    """Return what means the same here and there. Who asked here cannot come back: the job ends when they leave."""
    return {
        "model": wanted.model,
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "top_k": wanted.top_k,
        "presence_penalty": wanted.presence_penalty,
        "frequency_penalty": wanted.frequency_penalty,
        "seed": None if wanted.seed is None else wanted.seed % SEEDS,
        "logprobs": wants_logprobs(wanted),
        "stop": wanted.stop,
        "on_disconnect": "cancel",
    }


def _one_prompt(prompt: str | list[Any]) -> str:
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise unsupported("prompt", "this worker takes one prompt, of text")
        return prompt[0]
    return prompt

"""Turn what UIs ask into a request of ours. Called by the routes of their protocols. Pure: raises BadRequest."""

from collections.abc import Iterable
from typing import Literal

from rhapsode_contract.agui import ContextItem, RunAgentInput
from rhapsode_contract.agui import Message as AguiMessage
from rhapsode_contract.requests import ChatMessage, InferenceRequest, NarrationOptions
from rhapsode_contract.vercel import ChatRequest, UIMessage
from rhapsode_contract.wishes import Wishes
from rhapsode_relay.errors import BadRequest, unsupported
from rhapsode_relay.terms import longest_answer

_ROLES: dict[str, Literal["system", "user", "assistant", "tool"]] = {
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_NOT_TOLD = ("activity", "reasoning")
_NO_TOOLS = "no tools are called here; leave them out"


def ask_run(wanted: RunAgentInput, context_tokens: int) -> InferenceRequest:
    """Return the request for a run of an agent."""
    _refuse("tools", wanted.tools, _NO_TOOLS)
    _refuse("resume", wanted.resume, "no run is interrupted here, so none is resumed")
    told = [(at, one) for at, one in enumerate(wanted.messages) if one.role not in _NOT_TOLD]
    messages = [ChatMessage(role=_role(one, at), content=_text_of(one, at)) for at, one in told]
    return _request(_with_context(messages, wanted.context), wanted.forwarded_props or Wishes(), context_tokens)


def ask_chat(wanted: ChatRequest, context_tokens: int) -> InferenceRequest:
    """Return the request for a chat's next message."""
    messages = [ChatMessage(role=one.role, content=_text_in(one, at)) for at, one in enumerate(wanted.messages)]
    return _request(messages, wanted, context_tokens)


def _request(messages: list[ChatMessage], wishes: Wishes, context_tokens: int) -> InferenceRequest:
    _refuse("tools", wishes.tools, _NO_TOOLS)
    said = [one for one in messages if one.role != "assistant" or one.content]
    if not said:
        raise BadRequest("messages: there is none with text", param="messages")
    return InferenceRequest(
        model=wishes.model,
        messages=said,
        max_tokens=wishes.max_tokens or longest_answer(context_tokens),
        temperature=wishes.temperature,
        top_p=wishes.top_p,
        top_k=wishes.top_k,
        seed=wishes.seed,
        stop=wishes.stop,
        json_schema=wishes.json_schema,
        regex=wishes.regex,
        grammar=wishes.grammar,
        on_disconnect=wishes.on_disconnect,
        narration=wishes.narration if isinstance(wishes.narration, NarrationOptions) else None,
    )


def _refuse(name: str, value: object, why: str) -> None:
    """Refuse what would silently change the answer; what asks for nothing is fine."""
    if value not in (None, [], {}, ""):
        raise unsupported(name, why)


def _role(message: AguiMessage, at: int) -> Literal["system", "user", "assistant", "tool"]:
    role = _ROLES.get(message.role)
    if role is None:
        param = f"messages[{at}].role"
        raise BadRequest(f"{param}: unknown role {message.role[:40]!r}", param=param)
    return role


def _text_of(message: AguiMessage, at: int) -> str:
    content = message.content
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, dict):
        param = f"messages[{at}].content"
        raise BadRequest(f"{param}: give text, or parts of text", param=param)
    return _joined(((part.type, part.text) for part in content), f"messages[{at}].content")


def _with_context(messages: list[ChatMessage], context: list[ContextItem]) -> list[ChatMessage]:
    """Tell the model what the application gave as context, in the one system message that templates take."""
    if not context:
        return messages
    told = "\n".join(f"{item.description}: {item.value}" if item.description else item.value for item in context)
    if messages and messages[0].role == "system":
        first, *messages = messages
        told = f"{first.text()}\n\n{told}"
    return [ChatMessage(role="system", content=told), *messages]


def _text_in(message: UIMessage, at: int) -> str:
    """Return the text of a message: of one that was generated, what else it has is ours or its page's."""
    read = [(part.type, part.text) for part in message.parts if not part.type.startswith("data-")]
    if message.role == "assistant":
        return "".join(text for kind, text in read if kind == "text")
    return _joined(read, f"messages[{at}].parts")


def _joined(parts: Iterable[tuple[str, str]], where: str) -> str:
    texts = []
    for at, (kind, text) in enumerate(parts):
        if kind != "text":
            raise unsupported(f"{where}[{at}].type", f"this worker reads text only, and no {kind[:40]!r}")
        texts.append(text)
    return "".join(texts)

"""What OpenAI's clients may ask and we cannot do: refused by name, not ignored. Called by `asking`. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

from rhapsode_contract.openai import ChatRequest, CompletionRequest
from rhapsode_relay.errors import unsupported

Check = Callable[[Any], bool]
_OTHER_NAMES = {"json_schema": "response_format"}
"""What has another name here than in a request of ours."""


def absent(value: Any) -> bool:
    """Return whether nothing is asked for."""
    return value is None or value is False or value in ("", [], {})


def zero(value: Any) -> bool:
    """Return whether a number asks for nothing."""
    return value is None or value == 0


def _one(value: Any) -> bool:
    return value is None or (value == 1 and value is not True)


def _only_text(value: Any) -> bool:
    return value is None or value == ["text"]


def _no_tool(value: Any) -> bool:
    return value in (None, "none", "auto")


_SAMPLING: Mapping[str, tuple[Check, str]] = {
    "n": (_one, "this worker gives one answer to a request; send it several times"),
    "logit_bias": (absent, "this worker's engine knows no biases; leave it out"),
}
NO_LOGPROBS = "a response here tells no probabilities; leave it out, or ask /v1/chat/completions"
ONLY_CHOSEN = "this worker tells the probabilities of chosen tokens only; send 0, or leave it out"
_OLD_TOOLS = "this worker calls 'tools'; send it as one of them"
_CHAT: Mapping[str, tuple[Check, str]] = {
    **_SAMPLING,
    "top_logprobs": (zero, ONLY_CHOSEN),
    "functions": (absent, _OLD_TOOLS),
    "function_call": (_no_tool, _OLD_TOOLS),
    "modalities": (_only_text, "this worker speaks text only"),
    "audio": (absent, "this worker speaks text only"),
    "web_search_options": (lambda value: value is None, "this worker searches nothing; leave it out"),
}
_TEXT: Mapping[str, tuple[Check, str]] = {
    **_SAMPLING,
    "logprobs": (zero, ONLY_CHOSEN),
    "best_of": (_one, "this worker gives one answer to a request"),
    "echo": (absent, "this worker does not repeat the prompt"),
    "suffix": (absent, "this worker's engine fills no gaps; it goes on from a prompt"),
}


def refuse_chat(wanted: ChatRequest) -> None:
    """Refuse what would silently change the answer of a conversation. Raises BadRequest."""
    ignored = {"functions"} if wanted.function_call == "none" else set()
    refuse(wanted, {name: rule for name, rule in _CHAT.items() if name not in ignored})


def refuse_text(wanted: CompletionRequest) -> None:
    """Refuse what would silently change a text. Raises BadRequest."""
    refuse(wanted, _TEXT)


def in_openai_names(param: str | None) -> str | None:
    """Return the field that this client sent for the one that a worker complains of."""
    return _OTHER_NAMES.get(param or "", param)


def refuse(wanted: Any, rules: Mapping[str, tuple[Check, str]]) -> None:
    """Refuse a request if one of its fields is not fine. Raises BadRequest."""
    for name, (is_fine, why) in rules.items():
        if not is_fine(getattr(wanted, name)):
            raise unsupported(name, why)

"""The answers of chats and texts that are not streamed. Called by `routes`. Pure."""

from collections.abc import Sequence

from msgspec import UNSET

from rhapsode_contract import events, openai
from rhapsode_contract.tools import ToolCall


def whole_chat(
    answer_id: str,
    created: int,
    model: str,
    content: str | None,
    end: events.End,
    calls: Sequence[ToolCall] = (),
    logprobs: openai.ChatLogprobs | None = None,
) -> openai.ChatCompletion:
    """Return the answer to a conversation."""
    message = openai.AnswerMessage(content=content, tool_calls=list(calls) or UNSET)
    finish: openai.FinishReason = "tool_calls" if calls and end.stop_reason != "length" else finish_of(end)
    choice = openai.ChatChoice(message=message, logprobs=logprobs, finish_reason=finish)
    return openai.ChatCompletion(id=answer_id, created=created, model=model, choices=[choice], usage=end.usage)


def whole_text(
    answer_id: str,
    created: int,
    model: str,
    text: str,
    end: events.End,
    logprobs: openai.TextLogprobs | None = None,
) -> openai.Completion:
    """Return the text that goes on from a prompt."""
    choice = openai.TextChoice(text=text, logprobs=logprobs, finish_reason=finish_of(end))
    return openai.Completion(id=answer_id, created=created, model=model, choices=[choice], usage=end.usage)


def finish_of(end: events.End) -> openai.FinishReason:
    """Return why a text is over, in OpenAI's words."""
    return "length" if end.stop_reason == "length" else "stop"

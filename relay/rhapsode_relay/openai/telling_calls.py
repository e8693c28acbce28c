"""Tell calls of tools as OpenAI's chats do, in a stream and whole. Made by `routes`. Pure."""

from dataclasses import replace

from rhapsode_contract import events
from rhapsode_contract.openai_tools import CallDelta, FunctionDelta
from rhapsode_contract.tools import FunctionCall, ToolCall
from rhapsode_relay.openai.chunking import CHAT, Chunks, Wishes
from rhapsode_relay.openai.tool_calls import Call, Part
from rhapsode_relay.quoting import quote

_SHAPE = replace(CHAT, role=b'"delta":{"role":"assistant","content":null},"finish_reason":null')
"""There may be no content."""


def tool_call(job_id: str, at: int, call: Call) -> ToolCall:
    """Return a call by an id that is the same however often it is told."""
    return ToolCall(id=_call_id(job_id, at), function=FunctionCall(name=call.name, arguments=call.arguments))


class CallingChunks(Chunks):
    """A chat's stream in which calls may come: each with its name first, then its arguments."""

    def __init__(self, job_id: str, created: int, model: str, wishes: Wishes) -> None:
        super().__init__(_SHAPE, job_id, created, model, wishes)
        self._job_id = job_id
        self._reader = wishes.calling.reader
        self._calls = 0

    def tell(self, event: events.StreamEvent) -> bytes:
        if isinstance(event, events.Token):
            return self._tell_parts(self._reader.push(event.t))
        if isinstance(event, events.Snapshot):
            return self._tell_parts(self._reader.push(event.text))
        if isinstance(event, events.End):
            return self._tell_parts(self._reader.end()) + super().tell(event)
        if isinstance(event, events.Error):
            if self._wishes.calling.way == "whole" and event.error.param == "json_schema":
                event.error.param = "tool_choice"
            return self._tell_parts(self._reader.end()) + super().tell(event)
        return super().tell(event)

    def _tell_parts(self, parts: list[Part]) -> bytes:
        return b"".join(self._tell_call(part) if isinstance(part, Call) else self._speak(part) for part in parts)

    def _tell_call(self, call: Call) -> bytes:
        at, self._calls = self._calls, self._calls + 1
        begin = FunctionDelta(name=call.name, arguments="")
        first = CallDelta(index=at, id=_call_id(self._job_id, at), type="function", function=begin)
        rest = CallDelta(index=at, function=FunctionDelta(arguments=call.arguments))
        return self._begin() + self._say_delta(first) + self._say_delta(rest)

    def _say_delta(self, delta: CallDelta) -> bytes:
        return self._chunk(b'"delta":{"tool_calls":[%b]},"finish_reason":null' % quote(delta))

    def _finish(self, end: events.End) -> str:
        return "tool_calls" if self._calls and end.stop_reason != "length" else super()._finish(end)


def _call_id(job_id: str, at: int) -> str:
    return f"call_{job_id}_{at}"

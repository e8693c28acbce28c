"""Vercel's UI message stream, version 1: a job told as a message of a chat. Made by `formats` for each stream. Pure.

What a page shows while it waits is transient: its client hands it on and does not keep it. The oldest clients refuse
fields that they do not know, so there are none but theirs; how a message ended is part of its metadata.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rhapsode_contract import events, vercel
from rhapsode_relay.quoting import quote
from rhapsode_relay.uis.telling import Telling, contents, name_of, recalled, say

_DONE = b"data: [DONE]\n\n"
_BEFORE_TEXT = b'data: {"type":"text-delta","id":"text","delta":'
_TOLD_APART = ("outcome",)
"""What a message has as a part of its own."""


class VercelDialect(Telling):
    """One message, of one step and one text."""

    headers: Mapping[str, str] = MappingProxyType({"X-Vercel-Ai-Ui-Message-Stream": "v1"})

    def __init__(self, job_id: str, message_id: str = "") -> None:
        super().__init__(
            {
                events.Snapshot: self._catch_up,
                events.Queued: _pass_on,
                events.Started: self._start,
                events.Narration: _pass_on,
                events.Token: self._speak,
                events.Data: _give,
                events.Metrics: _pass_on,
                events.End: self._finish,
                events.Error: self._fail,
            }
        )
        self._job_id = job_id
        self._message_id = message_id or job_id
        self._model = ""

    def _begin(self, event: events.StreamEvent) -> bytes:
        known = {"job_id": self._job_id, "correlation_id": event.correlation_id}
        return say(vercel.Start(message_id=self._message_id, message_metadata=known), vercel.StartStep())

    def _catch_up(self, event: events.Snapshot) -> bytes:
        said = b"".join(_transient("narration", one) for one in recalled(event))
        return said + self._open() + self._text(event.text) if event.text else said

    def _start(self, event: events.Started) -> bytes:
        self._model = event.model
        return _pass_on(event)

    def _speak(self, event: events.Token) -> bytes:
        return self._open() + self._text(event.t)

    def _text(self, text: str) -> bytes:
        return b"%b%b}\n\n" % (_BEFORE_TEXT, quote(text))

    def _finish(self, event: events.End) -> bytes:
        how = contents(event)
        for name in _TOLD_APART:
            how.pop(name, None)
        if self._model:
            how["model"] = self._model
        return self._close() + say(vercel.FinishStep(), vercel.Finish(message_metadata=how)) + _DONE

    def _fail(self, event: events.Error) -> bytes:
        return _pass_on(event) + self._break_off(event.error)

    def _break_off(self, error: events.ErrorBody) -> bytes:
        """A message that was cancelled ends as it is; any other failure is shown."""
        if error.code == "cancelled":
            return self._close() + say(vercel.Abort()) + _DONE
        return self._close() + say(vercel.Failure(error_text=error.message)) + _DONE

    def _open(self) -> bytes:
        self._speaking = True
        return say(vercel.TextStart(id="text"))

    def _close(self) -> bytes:
        ended = say(vercel.TextEnd(id="text")) if self._speaking else b""
        self._speaking, self._state = False, "over"
        return ended


def _pass_on(event: events.StreamEvent) -> bytes:
    return _transient(name_of(event), contents(event))


def _give(event: events.Data) -> bytes:
    return say(vercel.DataPart(type=f"data-{event.action}", data=event.payload))


def _transient(name: str, data: Any) -> bytes:
    return say(vercel.DataPart(type=f"data-{name}", data=data, transient=True))

"""A job's stream as OpenAI's Responses API tells it. Called by its routes. Pure.

The numbers of events follow from the journal alone, each token event is one delta, so a second reading says the same;
one that goes on after a number leaves out what comes before. Narrations and keep-alives have no number of their own.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rhapsode_contract import events
from rhapsode_contract import openai_responses as told
from rhapsode_contract.openai_responses import OutputText
from rhapsode_relay.openai.narrating import Pace
from rhapsode_relay.openai.response_states import ResponseState
from rhapsode_relay.quoting import quote

_WAITS = "queued"
"""The action of the narration that tells a job its place in line, which it gets only if it has to wait."""


class ResponseEvents:
    """The dialect of one stream. `whole` returns the text of a job that is over."""

    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, state: ResponseState, whole: Callable[[], str], *, after: int = -1, narrates: bool = False
    ) -> None:
        self._state = state
        self._whole = whole
        self._after = after
        self._next = 0
        self._waits = False
        self._speaks = False
        self._message_at = 0
        self._pace = Pace() if narrates else None

    def tell(self, event: events.StreamEvent) -> bytes:
        created = b"" if self._next else self._say(told.ResponseCreated, response=self._state.show())
        self._state.hear(event)
        if isinstance(event, events.Token):
            return created + self._tell_token(event.t)
        return b"".join((created, self._narrate(event), self._tell_change(event)))

    def beat(self) -> bytes:
        return _event(told.Keepalive(sequence_number=self._last)) if self._last >= 0 else b""

    def part(self) -> bytes:
        message = f"this stream broke off; GET /v1/responses/{self._state.id}?stream=true&starting_after={self._last}"
        return _event(told.StreamError(sequence_number=self._last, code="stream_interrupted", message=message))

    @property
    def _last(self) -> int:
        """The number after which the client has to read on."""
        return max(self._after, self._next - 1)

    def _say(self, kind: Callable[..., Any], **facts: Any) -> bytes:
        """Return an event with the next number; nothing if the client has it."""
        number, self._next = self._next, self._next + 1
        return _event(kind(sequence_number=number, **facts)) if number > self._after else b""

    def _say_of_part(self, kind: Callable[..., Any], **facts: Any) -> bytes:
        return self._say(kind, item_id=self._state.item_id, output_index=self._message_at, **facts)

    def _tell_change(self, event: events.StreamEvent) -> bytes:
        if isinstance(event, events.Started):
            return self._say(told.ResponseInProgress, response=self._state.show())
        if isinstance(event, events.End):
            return self._tell_end()
        if isinstance(event, events.Error):
            return self._say(told.ResponseFailed, response=self._state.show(self._whole()))
        if isinstance(event, events.Narration) and event.action == _WAITS:
            return self._tell_waiting()
        return b""

    def _tell_waiting(self) -> bytes:
        if self._waits:
            return b""
        self._waits = True
        return self._say(told.ResponseQueued, response=self._state.show())

    def _tell_token(self, text: str) -> bytes:
        return self._begin_message() + self._say_of_part(told.OutputTextDelta, delta=text)

    def _begin_message(self) -> bytes:
        if self._speaks:
            return b""
        self._speaks = True
        added = self._say(told.OutputItemAdded, output_index=self._message_at, item=self._state.message(None))
        return added + self._say_of_part(told.ContentPartAdded, part=OutputText(text=""))

    def _tell_end(self) -> bytes:
        state, text = self._state, self._whole()
        kind = told.ResponseCompleted if state.status == "completed" else told.ResponseIncomplete
        return self._end_message(text) + self._say(kind, response=state.show(text))

    def _end_message(self, text: str) -> bytes:
        return b"".join((
            self._begin_message(),
            self._say_of_part(told.OutputTextDone, text=text),
            self._say_of_part(told.ContentPartDone, part=OutputText(text=text)),
            self._say(told.OutputItemDone, output_index=self._message_at, item=self._state.message(text)),
        ))  # fmt: skip

    def _narrate(self, event: events.StreamEvent) -> bytes:
        """Return the narration whose time has come, if the client wants any."""
        pace = self._pace
        if pace is None:
            return b""
        if isinstance(event, events.Narration):
            pace.hear(event)
        else:
            pace.tick(event.ts)
        said = pace.take(last=isinstance(event, events.End | events.Error))
        return b"" if said is None else _event(told.RelayNarration(sequence_number=self._last, narration=said))


def _event(event: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.__struct_config__.tag.encode(), quote(event))

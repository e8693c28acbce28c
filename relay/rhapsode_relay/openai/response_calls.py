"""Tell calls of tools as OpenAI's Responses API does. Made by its routes. Pure.

Numbers follow from the text and where its tokens begin, as they do without calls.
"""

from collections.abc import Callable

from rhapsode_contract import events
from rhapsode_contract import openai_responses as told
from rhapsode_relay.openai.response_states import ResponseState
from rhapsode_relay.openai.responses import ResponseEvents
from rhapsode_relay.openai.tool_calls import NEVER, Call, Part, read_whole


def events_of(state: ResponseState, whole: Callable[[], str], *, after: int, narrates: bool) -> ResponseEvents:
    """Return the dialect of one stream."""
    kind = ResponseEvents if state.calling == NEVER else CallingEvents
    return kind(state, whole, after=after, narrates=narrates)


class CallingEvents(ResponseEvents):
    """A stream in which calls may come, each an item of its own; all text is one message."""

    def __init__(
        self, state: ResponseState, whole: Callable[[], str], *, after: int = -1, narrates: bool = False
    ) -> None:
        super().__init__(state, whole, after=after, narrates=narrates)
        self._reader = state.calling.reader
        self._items = 0
        self._calls = 0

    def _tell_token(self, text: str) -> bytes:
        return self._tell_parts(self._reader.push(text))

    def _tell_change(self, event: events.StreamEvent) -> bytes:
        rest = self._tell_parts(self._reader.end()) if isinstance(event, events.End | events.Error) else b""
        return rest + super()._tell_change(event)

    def _tell_parts(self, parts: list[Part]) -> bytes:
        said = (
            self._tell_call(part) if isinstance(part, Call) else super(CallingEvents, self)._tell_token(part)
            for part in parts
        )
        return b"".join(said)

    def _tell_call(self, call: Call) -> bytes:
        at, self._items = self._items, self._items + 1
        item = self._state.call(self._calls, call)
        self._calls += 1
        begun = self._state.call(self._calls - 1, Call(call.name, ""))
        begun.status = "in_progress"
        place = {"item_id": item.id, "output_index": at}
        return b"".join((
            self._say(told.OutputItemAdded, output_index=at, item=begun),
            self._say(told.ArgumentsDelta, **place, delta=call.arguments),
            self._say(told.ArgumentsDone, **place, name=call.name, arguments=call.arguments),
            self._say(told.OutputItemDone, output_index=at, item=item),
        ))  # fmt: skip

    def _begin_message(self) -> bytes:
        if not self._speaks:
            self._message_at, self._items = self._items, self._items + 1
        return super()._begin_message()

    def _end_message(self, text: str) -> bytes:
        """An answer that only calls has no message."""
        content, _ = read_whole(self._state.calling, text)
        return super()._end_message(content or "") if self._speaks or not self._calls else b""

"""Which narrations a stream in another protocol tells, and when. Called by the dialects of OpenAI's endpoints. Pure.

Four a second at most, by the events' own times; of what comes faster the newest wins, and counts the others.
"""

from collections import deque
from datetime import datetime
from typing import get_args

from werkzeug.datastructures import Headers

from rhapsode_contract import events
from rhapsode_contract.openai import Narrated, NarrationStyle
from rhapsode_relay.errors import BadRequest

PER_SECOND = 4
HEADER = "X-Narration"
STYLES: tuple[NarrationStyle, ...] = get_args(NarrationStyle)


def style_of(asked: NarrationStyle | None, headers: Headers) -> NarrationStyle:
    """Return the style that a client asked for, in the body or by a header; the body wins. Raises BadRequest."""
    if asked is not None:
        return asked
    word = headers.get(HEADER, "off").strip().lower()
    for style in STYLES:
        if style == word:
            return style
    raise BadRequest(f"{HEADER}: {word[:40]!r} is none of {', '.join(STYLES)}", param=HEADER)


class Pace:
    """Keeps narrations to a pace. What has to wait is the newest; `take` says it when its time has come."""

    def __init__(self) -> None:
        self.waiting: events.Narration | None = None
        self._said: deque[float] = deque(maxlen=PER_SECOND)
        self._left_out = 0
        self._now = 0.0

    def hear(self, event: events.Narration) -> None:
        """Keep a narration until it is taken; it replaces one that waits."""
        if self.waiting is not None:
            self._left_out += 1
        self._left_out += event.dropped
        self.waiting = event
        self.tick(event.ts)

    def tick(self, ts: str) -> None:
        """It is so late by now."""
        self._now = max(self._now, _seconds(ts))

    def take(self, *, last: bool = False) -> Narrated | None:
        """Return what waits, if it may be said now, and forget it. The `last` one may be said at once."""
        event = self.waiting
        if event is None or not (last or self._is_free()):
            return None
        self._said.append(self._now)
        dropped, self._left_out, self.waiting = self._left_out, 0, None
        return Narrated(
            actor=event.actor,
            action=event.action,
            human=event.human,
            level=event.level,
            progress=event.progress,
            fields=event.fields,
            dropped=dropped,
        )

    def _is_free(self) -> bool:
        return len(self._said) < PER_SECOND or self._now - self._said[0] >= 1


def _seconds(ts: str) -> float:
    try:
        return datetime.fromisoformat(ts).timestamp()
    except ValueError:
        return 0.0

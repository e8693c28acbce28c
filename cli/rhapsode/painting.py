"""How narration looks on a terminal, and elsewhere. Called by every command that shows some."""

import sys
import time
from typing import IO, Literal

from rhapsode_contract import events
from rhapsode_contract.wording import clean

Style = Literal["human", "cute", "story", "off"]
_COLORS = {"debug": "2", "info": "36", "warn": "33", "error": "31;1"}


class Painter:
    """Writes narration as lines: with colour and the seconds since the start on a terminal, plain elsewhere."""

    def __init__(self, style: Style, stream: IO[str] | None = None, *, color: bool | None = None) -> None:
        self.style = style
        self._stream = stream or sys.stderr
        self._color = self._stream.isatty() if color is None else color
        self._began = time.monotonic()

    def line(self, text: str, *, actor: str = "", level: str = "info") -> None:
        """Write one line, or the lines of a table; whoever says it, it cannot take over the terminal."""
        seconds = time.monotonic() - self._began
        text, actor = clean(text, table=True, limit=len(text)), clean(actor)
        for at, part in enumerate(text.split("\n")):
            if self._color:
                head = f"{seconds:6.1f} s  {actor:<10}" if at == 0 else " " * 20
                self._stream.write(f"\x1b[2m{head}\x1b[0m \x1b[{_COLORS.get(level, '0')}m{part}\x1b[0m\n")
            else:
                mark = {"warn": "! ", "error": "! "}.get(level, "· ") if at == 0 else "  "
                self._stream.write(f"{mark}{part}\n")
        self._stream.flush()

    def narrate(self, event: events.Narration) -> None:
        """Write a narration in the reader's style."""
        if self.style != "off":
            if event.dropped:
                self.line(f"({event.dropped} left out)", actor=event.actor, level="debug")
            self.line(words_of(event, self.style), actor=event.actor, level=event.level)


def words_of(event: events.Narration, style: Style) -> str:
    """Return the words of a narration in a style, plain ones where it has none of that style."""
    if style == "cute":
        return event.cute or event.human
    if style == "story":
        return event.story or event.human
    return event.human

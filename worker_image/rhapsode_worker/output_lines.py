"""Cut what a process prints into lines that are safe to read, keep and show. Called by `engine_process`. Pure.

Whatever comes, the lines are bounded, hold no control sequences, and a progress bar that paints over itself all
the time costs one line for each piece of output that is read.
"""

import re
from collections import deque
from typing import NamedTuple

from rhapsode_contract.wording import clean

MAX_BYTES = 4096
"""Bytes of a line that are looked at; what follows them is passed over."""
MAX_CHARS = 1000
_ENDS = re.compile(rb"(\r\n|\r|\n)")
_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]{0,32}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)?|[@-Z\\^_])")


class Line(NamedTuple):
    """One line; a `passing` one is a progress bar that what comes next paints over."""

    text: str
    passing: bool = False


class LineCutter:
    """Cuts the output of one process."""

    def __init__(self) -> None:
        self._rest = b""
        self._painting = False

    def push(self, data: bytes) -> list[Line]:
        """Return the lines that more output completes, and how a progress bar looks now."""
        *whole, rest = _ENDS.split(self._rest + data)
        lines: list[Line] = []
        for text, end in zip(whole[::2], whole[1::2], strict=True):
            self._painting = end == b"\r"
            _add(lines, Line(_read(text), self._painting))
        self._rest = rest[:MAX_BYTES]
        if self._painting:
            _add(lines, Line(_read(rest), passing=True))
        return lines

    def end(self) -> list[Line]:
        """Return what was printed without an end."""
        rest, self._rest = self._rest, b""
        lines: list[Line] = []
        _add(lines, Line(_read(rest)))
        return lines


class LastLines:
    """The last lines of a process. A progress bar takes the place of one line."""

    def __init__(self, kept: int) -> None:
        self._lines: deque[Line] = deque(maxlen=kept)

    def keep(self, lines: list[Line]) -> None:
        for line in lines:
            if self._lines and self._lines[-1].passing:
                self._lines.pop()
            self._lines.append(line)

    def texts(self) -> list[str]:
        """Return them, each short enough for a sentence."""
        return [clean(line.text) for line in self._lines]


def _add(lines: list[Line], line: Line) -> None:
    if not line.text:
        return
    if lines and lines[-1].passing and line.passing:
        lines.pop()
    lines.append(line)


def _read(raw: bytes) -> str:
    return clean(_SEQUENCES.sub("", raw[:MAX_BYTES].decode(errors="replace")), limit=MAX_CHARS).strip()

"""Narrate from any Python process of the pod. Needs the worker socket, nothing else.

with Narrator().stage("fetch", "Fetching the adapters", total=3) as stage:
    for done, name in enumerate(adapters, 1):
        copy(name)
        stage.progress(done)
Narrator().table("adapters", [{"name": "law", "MB": 42}, {"name": "med", "MB": 40}])
"""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rhapsode_contract.frames import Level, Note, encode_frame
from rhapsode_contract.names import MAX_FRAME_BYTES, default_socket

SEND_TIMEOUT_S = 2.0
"""A relay that does not read must not stop whoever narrates."""


class CannotNarrate(OSError):
    """There is no relay to narrate to."""


class Narrator:
    """Tells people what your process does. With `strict=False` a missing relay is no error: the work goes on."""

    def __init__(self, path: str | Path | None = None, *, actor: str = "", strict: bool = False) -> None:
        self._path = Path(path) if path is not None else default_socket(os.environ)
        self._actor = actor
        self._strict = strict

    def say(
        self,
        human: str,
        *,
        action: str = "note",
        progress: float | None = None,
        level: Level = "info",
        target: str = "",
        **fields: Any,
    ) -> None:
        """Tell one sentence; `progress` is 0 to 1, `fields` are the facts behind the words."""
        note = Note(
            human=human,
            action=action,
            actor=self._actor,
            progress=None if progress is None else min(max(progress, 0.0), 1.0),
            level=level,
            target=target,
            fields=fields,
        )
        self._send(note)

    def table(self, action: str, rows: Sequence[Mapping[str, Any]], *, title: str = "") -> None:
        """Tell a table: drawn for people, and the same rows as a `data` event for programs."""
        drawn = draw_table(rows)
        human = f"{title}\n{drawn}" if title else drawn
        self._send(
            Note(human=human, action=action, actor=self._actor, table=True),
            Note(type="data", action=action, payload=[dict(row) for row in rows]),
        )

    def stage(self, action: str, human: str, *, total: float = 1) -> "Stage":
        """Return a context manager that tells a stage's beginning, progress and end, or its failure."""
        return Stage(self, action, human, total)

    def _send(self, *notes: Note) -> None:
        data = b"".join(map(encode_frame, notes))
        try:
            if any(len(encode_frame(note)) > MAX_FRAME_BYTES for note in notes):
                raise CannotNarrate(f"a narration may take {MAX_FRAME_BYTES} bytes; send less at once")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(SEND_TIMEOUT_S)
                connection.connect(str(self._path))
                connection.sendall(data)
        except OSError as exc:
            if self._strict:
                raise CannotNarrate(_why(exc, self._path)) from exc


class Stage:
    """A stage of work; made by `Narrator.stage`."""

    def __init__(self, narrator: Narrator, action: str, human: str, total: float) -> None:
        self._narrator = narrator
        self._action = action
        self._human = human
        self._total = total
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._narrator.say(self._human, action=self._action, progress=0.0)
        return self

    def progress(self, done: float, human: str = "") -> None:
        """Tell that `done` of `total` is done."""
        fraction = done / self._total if self._total else 1.0
        words = human or f"{self._human}: {fraction * 100:.0f} %"
        self._narrator.say(words, action=self._action, progress=fraction, done=done, total=self._total)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = round(time.monotonic() - self._began, 3)
        if exc is None:
            words = f"{self._human}: done in {seconds:.1f} s"
            self._narrator.say(words, action=self._action, progress=1.0, seconds=seconds)
        else:
            words = f"{self._human}: failed after {seconds:.1f} s, {type(exc).__name__}"
            self._narrator.say(words, action=self._action, level="error", seconds=seconds)


def draw_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as aligned text: numbers to the right, a rule under the header."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        return ""
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    widths = [max([len(name), *(len(line[at]) for line in cells)]) for at, name in enumerate(columns)]
    right = [all(isinstance(row.get(name), int | float) for row in rows) for name in columns]
    lines = [_line(columns, widths, right), "  ".join("─" * width for width in widths)]
    lines += [_line(line, widths, right) for line in cells]
    return "\n".join(line.rstrip() for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    return "  ".join(
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("\n", " ")


def _why(exc: OSError, path: Path) -> str:
    if isinstance(exc, CannotNarrate):
        return str(exc)
    what = exc.strerror or str(exc)
    return f"no relay listens on {path} ({what}); start one, or set RHAPSODE_SOCKET to its socket"

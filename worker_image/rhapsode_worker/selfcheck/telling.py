"""Say on standard error what a check is doing. Called by all that take time.

What is said here is the progress; the report comes at the end, on standard output.
"""

import sys
from typing import IO

from rhapsode_contract import frames
from rhapsode_contract.wording import clean

SHOWN_LINES = 15
"""How many of an engine's last lines a report shows."""


class Teller:
    """Writes lines, one for each thing that is said. A closed standard error ends nothing."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr

    def line(self, text: str, mark: str = "·") -> None:
        """Write one line."""
        try:
            self._stream.write(f"{mark} {clean(text, limit=1000)}\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    def frame(self, frame: frames.WorkerFrame) -> None:
        """Write what a worker would tell its relay, if it is a sentence."""
        if isinstance(frame, frames.Narration):
            self.line(frame.human, "!" if frame.level in ("warn", "error") else "·")

"""Frames on their way to the relay. Called by `linking`. Pure but for the callbacks it is given.

Frames that are ready together leave in one write. Adjacent tokens of a job are joined, whether because a fast
engine made them at once or because the relay is slow; none is ever dropped. Narration is, beyond a bound, and
what was dropped is counted in the next one.
"""

import copy
from collections.abc import Callable

from rhapsode_contract import frames
from rhapsode_worker.joining import join_tokens

MAX_WAITING_NARRATIONS = 1000
_LATEST = (frames.Vram, frames.Stats)
"""Of these only the latest matters to a relay that did not read."""


class Outbox:
    """Collects frames until the end of the event loop's turn, or until the relay reads again."""

    def __init__(self, write: Callable[[bytes], None], soon: Callable[[Callable[[], None]], object]) -> None:
        self._write = write
        self._soon = soon
        self._frames: list[frames.WorkerFrame] = []
        self._last_token: dict[str, frames.Token] = {}
        self._narrations = 0
        self._dropped = 0
        self._scheduled = False
        self._paused = False

    def put(self, frame: frames.WorkerFrame) -> None:
        """Take a frame."""
        if isinstance(frame, frames.Token):
            self._put_token(frame)
        else:
            if isinstance(frame, frames.Narration) and not self._admit(frame):
                return
            if isinstance(frame, _LATEST):
                self._frames = [waiting for waiting in self._frames if type(waiting) is not type(frame)]
            self._last_token.pop(getattr(frame, "job_id", None) or "", None)
            self._frames.append(frame)
        if not self._scheduled and not self._paused:
            self._scheduled = True
            self._soon(self._flush)

    def pause(self) -> None:
        """The relay does not read."""
        self._paused = True

    def resume(self) -> None:
        """The relay reads again."""
        self._paused = False
        self._flush()

    def _put_token(self, frame: frames.Token) -> None:
        last = self._last_token.get(frame.job_id)
        if last is None or not join_tokens(last, frame):
            mine = copy.copy(frame)  # joining changes it, and the caller may keep his
            self._last_token[frame.job_id] = mine
            self._frames.append(mine)

    def _admit(self, narration: frames.Narration) -> bool:
        if self._narrations >= MAX_WAITING_NARRATIONS:
            self._dropped += 1
            return False
        self._narrations += 1
        narration.dropped += self._dropped
        self._dropped = 0
        return True

    def _flush(self) -> None:
        self._scheduled = False
        if self._paused or not self._frames:
            return
        waiting, self._frames = self._frames, []
        self._last_token.clear()
        self._narrations = 0
        self._write(b"".join(map(frames.encode_frame, waiting)))

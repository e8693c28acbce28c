"""What the worker tells about itself: to its log, and to the relay. Called by `supervising`.

Keeps what a relay must know that connects later: the phase, how far loading is, what the GPUs hold.
"""

import copy
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from rhapsode_contract import frames
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.records import log_narration, timestamp
from rhapsode_worker.tracking import LoadTracker

_REMEMBERED = 200
"""Narrations of the worker's life that a late relay is told."""


class Voice:
    """One worker's voice. `send` reaches the relay, if there is one."""

    def __init__(self, logger: logging.Logger, send: Callable[[frames.WorkerFrame], None]) -> None:
        self._logger = logger
        self._send = send
        self._state = frames.State(phase="starting")
        self._load: frames.Load | None = None
        self._vram: frames.Vram | None = None
        self._said: deque[frames.Narration] = deque(maxlen=_REMEMBERED)
        self._track = LoadTracker(time.monotonic(), {})

    @property
    def phase(self) -> frames.Phase:
        return self._state.phase

    def begin_load(self, usual: Mapping[str, float]) -> None:
        """A load begins; `usual` says how long its stages took last time."""
        self._track = LoadTracker(time.monotonic(), usual)
        self.enter("loading")

    def end_load(self) -> dict[str, float]:
        """The load is over; return how long each stage took."""
        return self._track.finish(time.monotonic())

    def enter(
        self, phase: frames.Phase, reason: str = "", message: str = "", caps: frames.Caps | None = None
    ) -> None:
        """Tell the phase."""
        self._state = frames.State(phase=phase, reason=reason, message=message, caps=caps)
        if phase != "loading":
            self._load = None
        self._send(self._state)

    def holds(self, vram: frames.Vram) -> None:
        """Tell what the GPUs hold."""
        self._vram = vram
        self._send(vram)

    def say(self, action: str, *, progress: float | None = None, **fields: Any) -> None:
        """Tell a built-in action."""
        self.tell(narrate(action, fields, progress=progress))

    def tell(self, narration: frames.Narration, correlation_id: str = "") -> None:
        """Tell a narration, of the worker's life or of a job."""
        if narration.job_id is None and self.phase == "loading":
            now = time.monotonic()
            if not self._track.admit(narration, now):
                return
            if load := self._track.load_frame(narration, now):
                self._load = load
                self._send(load)
        log_narration(self._logger, narration, correlation_id)
        self._remember(narration)
        self._send(narration)

    def break_silence(self) -> None:
        """Say that it still goes on, if nothing has been said for a while."""
        now = time.monotonic()
        if self.phase == "loading" and (narration := self._track.still(now)):
            if load := self._track.standing(now):
                self._load = load
                self._send(load)
            log_narration(self._logger, narration)
            self._remember(narration)
            self._send(narration)

    def usual(self, doing: str) -> float | None:
        """Return how long a stage took last time."""
        return self._track.usual(doing)

    def recap(self) -> list[frames.WorkerFrame]:
        """Return what a relay must know that has just come: what was said, and how things are."""
        known = (*self._said, self._state, self._load, self._vram)
        return [frame for frame in known if frame is not None]

    def _remember(self, narration: frames.Narration) -> None:
        """Keep what was said of the worker's life; of progress only the latest."""
        if narration.job_id is not None:
            return
        kept = copy.copy(narration)
        kept.ts = timestamp()
        last = self._said[-1] if self._said else None
        if last and narration.progress and (last.action, last.target) == (kept.action, kept.target):
            self._said.pop()
        self._said.append(kept)

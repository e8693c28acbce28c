"""Run asyncio code on a clock that jumps: whoever sleeps for five minutes wakes at once, in the right order."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    """Advances the clock instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Jumping()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def jump(self, seconds: float) -> None:
        self._clock.now += seconds


def stand_still(seconds: float) -> None:
    """Let time pass in which the whole process does nothing, as where it was stopped."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _JumpingLoop)
    loop.jump(seconds)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; its time takes no time."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(work)

"""Bring what several threads hear to one that shows it. Called by `following` and `listing`.

The line between them is short: while the screen is slow, the threads wait, and with them their connections.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from rhapsode.errors import EXIT_TRY_LATER, CommandError

MAX_WAITING = 256
_TICK_S = 0.5


class Gathering:
    """A short line of what was heard; each item is a call that shows it."""

    def __init__(self) -> None:
        self._line: queue.Queue[Callable[[], None]] = queue.Queue(MAX_WAITING)

    def put(self, show: Callable[[], None]) -> None:
        """Have something shown, in turn."""
        self._line.put(show)

    def start(self, work: Callable[[], None], name: str) -> None:
        """Start a thread; the CommandError that ends it ends everything."""

        def run() -> None:
            try:
                work()
            except CommandError as exc:
                self.put(partial(_fail, exc))
            except Exception as exc:
                self.put(partial(_fail, CommandError(f"{name}: {type(exc).__name__}: {exc}")))

        threading.Thread(target=run, name=name, daemon=True).start()

    def shown(self, timeout_s: float | None, missed: str) -> Iterator[None]:
        """Show one after the other, and yield after each, for so long. CommandError if something is `missed` then."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(queue.Empty):
                self._line.get(timeout=_TICK_S)()
            yield
            if deadline is not None and time.monotonic() > deadline:
                if missed:
                    raise CommandError(f"{missed} within {timeout_s:.0f} s", EXIT_TRY_LATER)
                return


def _fail(exc: CommandError) -> None:
    raise exc

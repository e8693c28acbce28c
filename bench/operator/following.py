"""What the bench has seen, and when: it follows collections and wakes who waits. Used by the scenes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from bench.operator.calling import Caller
from bench.operator.resources import RESOURCES, Seen

PATIENCE_S = 300.0


class View:
    """All that the watches told."""

    def __init__(self) -> None:
        self.workers: dict[str, Seen] = {}
        self.born: dict[str, float] = {}
        """By path and name: when it was seen first."""
        self._news = asyncio.Event()

    def take(self, path: str, seen: Seen) -> None:
        """Note a change."""
        if path == RESOURCES:
            self.workers[seen.metadata.name] = seen
        self.born.setdefault(f"{path}/{seen.metadata.name}", time.perf_counter())
        self._news.set()

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> float:
        """Return when something was first seen to be so."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
                return time.perf_counter()
        raise TimeoutError(f"waited {seconds:.0f} s in vain until {what}")


@contextlib.asynccontextmanager
async def following(api: Caller, *paths: str) -> AsyncIterator[View]:
    """Follow collections as long as the block runs."""
    view = View()

    async def follow(path: str) -> None:
        async for change in api.watch(path):
            view.take(path, change.object)

    tasks = [asyncio.create_task(follow(path)) for path in paths]
    await asyncio.sleep(0.3)  # the watches begin
    try:
        yield view
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

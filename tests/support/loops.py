"""The loops that tests run connections in."""

import asyncio

from support.processes import DEADLINE_S


def watched() -> int:
    """Return how many files this loop looks at: its own pipe, servers of the test, connections."""
    return len(asyncio.get_running_loop()._selector.get_map())  # type: ignore[attr-defined]


async def settle(before: int = 1) -> None:
    """Let connections that were closed go, TLS and all: this takes the loop some turns, and it is about to end.

    `before` is how many files it looked at before there were connections.
    """
    async with asyncio.timeout(DEADLINE_S):
        while watched() > before:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.005)

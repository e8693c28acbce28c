"""The operator's client, connected to a test's API server."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from rhapsode_operator.kube import Kube, connect
from support.api_server import ApiServer
from support.processes import DEADLINE_S


class Calls:
    """Counts requests by verb and code."""

    def __init__(self) -> None:
        self.made: Counter[tuple[str, str]] = Counter()

    def called(self, verb: str, code: str, seconds: float) -> None:
        self.made[verb, code] += 1


def watched() -> int:
    """Return how many files this test's loop looks at: its own pipe, servers of the test, connections."""
    return len(asyncio.get_running_loop()._selector.get_map())  # type: ignore[attr-defined]


async def settle(before: int = 1) -> None:
    """Let connections that were closed go, TLS and all: this takes the loop some turns, and a test's loop ends.

    `before` is how many files it looked at before there were connections.
    """
    async with asyncio.timeout(DEADLINE_S):
        while watched() > before:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def connected(server: ApiServer | Path, calls: Calls | None = None) -> AsyncIterator[Kube]:
    """Connect as the administrator of a server, or as a kubeconfig says."""
    config, before = server if isinstance(server, Path) else server.kubeconfig(), watched()
    async with connect(calls or Calls(), environ={"KUBECONFIG": str(config)}) as kube:
        yield kube
    await settle(before)

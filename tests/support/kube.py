"""The operator's client, connected to a test's API server."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from rhapsode_operator.kube import Kube, connect
from support.api_server import ApiServer


class Calls:
    """Counts requests by verb and code."""

    def __init__(self) -> None:
        self.made: Counter[tuple[str, str]] = Counter()

    def called(self, verb: str, code: str, seconds: float) -> None:
        self.made[verb, code] += 1


async def settle() -> None:
    """Let connections that were closed go, TLS and all: this takes the loop some turns, and a test's loop ends."""
    watched = asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while len(watched) > 1:  # the loop's own pipe stays
                await asyncio.sleep(0.005)
    await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def connected(server: ApiServer | Path, calls: Calls | None = None) -> AsyncIterator[Kube]:
    """Connect as the administrator of a server, or as a kubeconfig says."""
    config = server if isinstance(server, Path) else server.kubeconfig()
    async with connect(calls or Calls(), environ={"KUBECONFIG": str(config)}) as kube:
        yield kube
    await settle()

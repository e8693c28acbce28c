"""The operator's client, connected to a test's API server."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from rhapsode_operator.kube import Kube, connect
from support.api_server import ApiServer
from support.loops import settle, watched


class Calls:
    """Counts requests by verb and code."""

    def __init__(self) -> None:
        self.made: Counter[tuple[str, str]] = Counter()

    def called(self, verb: str, code: str, seconds: float) -> None:
        self.made[verb, code] += 1


@contextlib.asynccontextmanager
async def connected(server: ApiServer | Path, calls: Calls | None = None) -> AsyncIterator[Kube]:
    """Connect as the administrator of a server, or as a kubeconfig says."""
    config, before = server if isinstance(server, Path) else server.kubeconfig(), watched()
    async with connect(calls or Calls(), environ={"KUBECONFIG": str(config)}) as kube:
        yield kube
    await settle(before)

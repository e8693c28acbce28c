"""What every pod of the stand-in has in common: the kubelet around it, and who writes its status.

Used by `pod_lives`, `hollow_lives` and `kubelet`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from support.api_client import ApiError
from support.api_stream import ApiStream
from support.kubelet_faults import Faults
from support.pod_probes import Pace

JSON = dict[str, Any]


@dataclass
class House:
    """What all pods of one kubelet share."""

    api: ApiStream
    http: aiohttp.ClientSession
    folder: Path
    faults: Faults
    pace: Pace
    environ: dict[str, str]
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    tell: Callable[[JSON, str, str, str], None]
    """Posts an Event about a pod: type, reason, message."""


class Life(Protocol):
    """One pod on a node, as the kubelet sees it."""

    def update(self, pod: JSON) -> None: ...
    async def fail(self, reason: str, message: str) -> None: ...
    async def abandon(self) -> None: ...


class Report:
    """Writes a pod's status: the newest, one at a time, until the pod is gone."""

    def __init__(self, house: House, pod: JSON, status: Callable[[], JSON]) -> None:
        self._house, self._status = house, status
        self._where = path_of(pod)
        self._uid = pod["metadata"]["uid"]
        self._told: JSON = {}
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._task = house.spawn(self._keep())

    def news(self) -> None:
        self._news.set()

    async def flush(self) -> None:
        """Write what is new now."""
        async with self._lock:
            self._news.clear()
            status = self._status()
            if status != self._told:
                body = {"metadata": {"uid": self._uid}, "status": status}
                if await self._send("PATCH", f"{self._where}/status", body):
                    self._told = status

    async def remove(self) -> None:
        """Say that nothing of the pod is left: the API server forgets it."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._uid}}
        await self._send("DELETE", self._where, body)

    def close(self) -> None:
        self._task.cancel()

    async def _keep(self) -> None:
        while True:
            await self._news.wait()
            await self.flush()

    async def _send(self, method: str, path: str, body: JSON) -> bool:
        try:
            await self._house.api.send(method, path, body, "strategic" if method == "PATCH" else "")
        except ApiError as exc:
            if exc.status not in (404, 409):
                raise
            return False
        return True


def path_of(pod: JSON) -> str:
    """Return where a pod is on the API server."""
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"

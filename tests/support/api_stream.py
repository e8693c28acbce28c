"""The stand-in's own way to the API server: asyncio, and patient where a kubelet is. Used by `kubelet` and its pods."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import aiohttp

from support.api_client import PATCHES, ApiError
from support.processes import DEADLINE_S

JSON = dict[str, Any]
Event = tuple[Literal["LISTED", "SEEN", "GONE"], list[JSON]]
PAUSE_S = 0.1
LOST_RACE = "the object has been modified"
"""What the server says (409) when others wrote the object again and again meanwhile: no fault of what was sent."""
_LOST = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


class ApiStream:
    """A session with the API server that outlives its restarts."""

    def __init__(self, url: str, token: str, certificate: Path) -> None:
        self._url = url
        self._connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(certificate)), limit=64)
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"}, connector=self._connector, read_bufsize=4 * 1024 * 1024
        )

    async def close(self) -> None:
        """Close all connections, without a farewell that the server would have to answer before our loop ends."""
        await self._connector.close(abort_ssl=True)
        await self._session.close()

    async def send(self, method: str, path: str, body: Any = None, kind: str = "") -> JSON:
        """Send until the server answers something that another try would not change; ApiError for a refusal."""
        headers = {"Content-Type": PATCHES.get(kind, "application/json")}
        content = None if body is None else json.dumps(body)
        while True:
            try:
                async with self._session.request(
                    method, self._url + path, data=content, headers=headers, timeout=aiohttp.ClientTimeout(DEADLINE_S)
                ) as response:
                    answer: JSON = await response.json(content_type=None)
            except _LOST:
                await asyncio.sleep(PAUSE_S)
                continue
            if response.status < 400:
                return answer
            words = str(answer.get("message"))
            if response.status != 429 and response.status < 500 and LOST_RACE not in words:
                raise ApiError(response.status, words)
            await asyncio.sleep(PAUSE_S)

    async def find(self, path: str) -> JSON | None:
        try:
            return await self.send("GET", path)
        except ApiError as exc:
            if exc.status == 404:
                return None
            raise

    async def follow(self, path: str) -> AsyncIterator[Event]:
        """Yield what is there, then each change; what is there again after every loss of the connection."""
        while True:
            listed = await self.send("GET", path)
            yield "LISTED", listed["items"]
            try:
                async for event in self._watch(path, listed["metadata"]["resourceVersion"]):
                    yield event
            except _LOST:
                await asyncio.sleep(PAUSE_S)

    async def _watch(self, path: str, version: str) -> AsyncIterator[Event]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=DEADLINE_S)
        params = {"watch": "true", "resourceVersion": version}
        async with self._session.get(self._url + path, params=params, timeout=timeout) as response:
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                yield "GONE" if event["type"] == "DELETED" else "SEEN", [event["object"]]

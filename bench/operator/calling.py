"""The bench's own way to the API server: as little work as can be, for it shares the cores. Used by all scenes."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Self

import aiohttp
import msgspec

from bench.operator.resources import NAMESPACE, RESOURCES, Change, Page, Seen, resource

AT_ONCE = 32
_changes = msgspec.json.Decoder(Change)


class Caller:
    """A session with the API server: `async with Caller(url, token, certificate) as api`."""

    def __init__(self, url: str, token: str, certificate: str) -> None:
        self._url, self._token, self._certificate = url, token, certificate

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"},
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=self._certificate), limit=0),
            timeout=aiohttp.ClientTimeout(total=60),
            read_bufsize=1 << 20,
        )
        self._turns = asyncio.Semaphore(AT_ONCE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, method: str, path: str, body: bytes, kind: str = "application/json") -> bytes:
        """Send a request and return the answer; one that is no success is an error."""
        async with (
            self._turns,
            self._session.request(method, self._url + path, data=body, headers={"Content-Type": kind}) as answer,
        ):
            text = await answer.read()
            assert answer.status < 300, (method, path, answer.status, text[:500])
            return text

    async def count(self, path: str) -> int:
        """Return how many objects there are: one is sent, so that counting costs next to nothing."""
        url = f"{self._url}{within(path)}?limit=1"
        async with self._session.get(url) as answer:
            page = msgspec.json.decode(await answer.read(), type=Page)
        return len(page.items) + page.metadata.remaining_item_count

    async def list(self, path: str) -> list[Seen]:
        """Return all objects."""
        async with self._session.get(f"{self._url}{within(path)}") as answer:
            return msgspec.json.decode(await answer.read(), type=Page).items

    async def create(self, name: str) -> None:
        """Create a resource."""
        await self.send("POST", within(RESOURCES), resource(name))

    async def create_all(self, wanted: Iterable[str]) -> None:
        """Create resources, many at once."""
        await asyncio.gather(*map(self.create, wanted))

    async def watch(self, path: str) -> AsyncIterator[Change]:
        """Yield what is there and every change; again from the start when the API server drops a slow reader."""
        timeout = aiohttp.ClientTimeout(total=None)
        while True:
            async with self._session.get(f"{self._url}{path}?watch=true", timeout=timeout) as answer:
                rest = b""
                async for data in answer.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        yield _changes.decode(line)


def within(path: str) -> str:
    """Return a collection's path inside our namespace."""
    base, _, plural = path.rpartition("/")
    return f"{base}/namespaces/{NAMESPACE}/{plural}"

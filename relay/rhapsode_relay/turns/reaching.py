"""Call sinks and context sources over HTTP. Called by `fetching` and `writing`.

The client is imported with the first call, in a thread. Nothing is pooled, no redirect is followed, nothing is tried
again: a sink must not be called twice, and aiohttp sends a PUT again whose pooled connection died. What comes back is
bounded, and nothing of it is ever logged.
"""

import asyncio
import importlib
import os
import socket
from dataclasses import dataclass, field
from typing import Any

from rhapsode_relay.calling import plain_session

MAX_ANSWER_BYTES = 256 * 1024
"""Largest answer that is read."""


class Unanswered(Exception):
    """There was no answer; the message says why, in words without addresses or bodies."""


@dataclass(frozen=True, kw_only=True)
class Errand:
    """One call."""

    method: str
    url: str
    within_s: float
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True)
class Reply:
    """What came back; `body` is None for one that is too long or broke off."""

    status: int
    body: bytes | None


class Outside:
    """Makes all calls of one relay's turns."""

    def __init__(self) -> None:
        self._session: Any = None
        self._failures: tuple[type[Exception], ...] = ()
        self._opening = asyncio.Lock()

    async def prepare(self) -> None:
        """Load the HTTP client, so that no call's time counts it."""
        async with self._opening:
            if self._session is None:
                aiohttp: Any = await asyncio.to_thread(importlib.import_module, "aiohttp")
                self._failures = (aiohttp.ClientError, OSError, ValueError)
                self._session = plain_session(aiohttp, None)

    async def call(self, errand: Errand) -> Reply:
        """Return the reply. Raises Unanswered."""
        await self.prepare()
        deadline = asyncio.get_running_loop().time() + errand.within_s
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._ask(errand)
        except TimeoutError:
            raise Unanswered(f"no answer within {errand.within_s:.3g} s") from None
        except self._failures as exc:
            raise Unanswered(_words(exc)) from None
        try:
            return Reply(response.status, await self._read(response, deadline))
        finally:
            response.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, errand: Errand) -> Any:
        yarl: Any = importlib.import_module("yarl")
        url = yarl.URL(errand.url, encoded=True)
        return await self._session.request(
            errand.method,
            url.update_query(errand.query) if errand.query else url,
            headers=errand.headers,
            data=errand.body,
            allow_redirects=False,
        )

    async def _read(self, response: Any, deadline: float) -> bytes | None:
        """Read a bounded body. One that does not come to its end changes nothing about the status."""
        body = b""
        try:
            async with asyncio.timeout_at(deadline):
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        return None
        except self._failures:  # a time-out is one of them
            return None
        return body


def _words(exc: Exception) -> str:
    """Return why a call failed. The client's own words hold hosts and ports, which readers need not know."""
    cause: BaseException = getattr(exc, "os_error", None) or exc
    if isinstance(cause, socket.gaierror):
        return "cannot be reached: its name is not known"
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return f"cannot be reached: {os.strerror(cause.errno)}"
    return f"cannot be reached: {type(exc).__name__}"

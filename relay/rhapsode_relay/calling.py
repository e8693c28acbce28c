"""Requests to other replicas. Called by `forwarding`, `joining` and `handing_over`.

The HTTP client is imported at the first call, in a thread: a relay that calls nobody does not carry it, and one that
does goes on streaming meanwhile. Nothing is pooled: a request that meets a connection which just died would have
to be sent twice, and a hand-over must not be.
"""

import asyncio
import importlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from rhapsode_contract import names
from rhapsode_relay.peers import Address

Headers = list[tuple[bytes, bytes]]

CONNECT_S = 2.0
"""How long a connection to another replica may take."""
HEAD_S = 10.0
"""How long it may take to answer; a relay that has just started waits five seconds for its worker."""
MAX_HEAD_BYTES = 32 * 1024
_OF_ONE_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"host", b"date",
}  # fmt: skip
"""Headers that concern one connection only, and the date, which each server says itself."""
_OURS = {names.HOP_HEADER.lower().encode(), b"content-length"}
_QUERY = re.compile(r"\?\S*")
_QUERY_SAFE = "!\"$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


class Unreachable(Exception):
    """The replica did not answer; the message says why."""


class Broken(Exception):
    """The replica's answer ended before its end."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to another replica."""

    method: str
    path: str
    query: bytes = b""
    headers: Headers
    body: bytes | None = None
    within_s: float = HEAD_S
    """How long the answer's head may take."""


class Answer:
    """What the replica answers. Whoever got it closes it, at once when its own client leaves."""

    def __init__(self, response: Any, failures: tuple[type[Exception], ...]) -> None:
        self._response = response
        self._failures = failures
        self.status: int = response.status
        self.headers = passed_on(list(response.raw_headers))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Nothing is read while nothing is taken. Raises Broken."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except self._failures as exc:
            raise Broken(_words(exc)) from exc

    async def whole(self, limit: int) -> bytes:
        """Return a short body. Raises Broken, also for a longer one."""
        body = b""
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise Broken(f"more than {limit} bytes")
        return body

    def close(self) -> None:
        self._response.close()


class Caller:
    """Makes the calls of one relay."""

    def __init__(
        self,
        worker_id: str,
        silence_s: float,
        renew: Callable[[bytes], bytes] = lambda query: query,
        slack: float = 1.0,
    ) -> None:
        """`silence_s`: a stream that says nothing for so long, not even heartbeats, is taken for lost.

        `renew` makes the ticket in a query a good one, which may have expired since its client came in. `slack` is
        how many times longer than usual everything else may take.
        """
        self._hop = (names.HOP_HEADER, worker_id)
        self._renew = renew
        self._silence_s = silence_s
        self._slack = slack
        self._aiohttp: Any = None
        self._session: Any = None
        self._opening = asyncio.Lock()
        self._ending = False

    async def prepare(self) -> None:
        """Load the HTTP client. The first time takes as long as this machine needs, so no call's time counts it."""
        await self._client()

    async def open(self, address: Address, call: Call) -> Answer:
        """Return an answer once its head is there. Raises Unreachable."""
        aiohttp, session = await self._client()
        failures = (aiohttp.ClientError, OSError, ValueError)
        try:
            async with asyncio.timeout(call.within_s * self._slack):
                response = await session.request(
                    call.method,
                    _url(address, call.path, self._renew(call.query)),
                    headers=self._headers(call),
                    data=call.body,
                    allow_redirects=False,
                    **self._patience(aiohttp, call),
                )
        except failures as exc:
            raise Unreachable(_words(exc)) from exc
        return Answer(response, failures)

    async def close(self) -> None:
        """Break off all calls; no new one is made."""
        self._ending = True
        async with self._opening:
            if self._session is not None:
                await self._session.close()

    def _headers(self, call: Call) -> list[tuple[str, str]]:
        kept = [(name, value) for name, value in passed_on(call.headers) if name.lower() not in _OURS]
        return [*((name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in kept), self._hop]

    def _patience(self, aiohttp: Any, call: Call) -> dict[str, Any]:
        """Return what a call needs whose answer may take longer than a stream is silent."""
        if call.within_s <= HEAD_S:
            return {}
        connect_s, read_s = CONNECT_S * self._slack, call.within_s * self._slack
        return {"timeout": aiohttp.ClientTimeout(sock_connect=connect_s, sock_read=read_s, total=None)}

    async def _client(self) -> tuple[Any, Any]:
        async with self._opening:
            if self._ending:
                raise Unreachable("this relay is ending")
            if self._session is None:
                self._aiohttp = await asyncio.to_thread(importlib.import_module, "aiohttp")
                self._session = plain_session(self._aiohttp, self._silence_s, self._slack)
        return self._aiohttp, self._session


def plain_session(aiohttp: Any, silence_s: float | None, slack: float = 1.0) -> Any:
    """Return a client that adds nothing of its own: no cookies, no redirects, no encodings, no proxy."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(sock_connect=silence_s and CONNECT_S * slack, sock_read=silence_s, total=None),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        auto_decompress=False,
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
    )


def passed_on(headers: Headers) -> Headers:
    """Return the headers that go on to the next hop."""
    listed = b",".join(value for name, value in headers if name.lower() == b"connection").lower()
    left = _OF_ONE_HOP | {token.strip() for token in listed.split(b",")}
    return [(name, value) for name, value in headers if name.lower() not in left]


def _url(address: Address, path: str, query: bytes) -> Any:
    yarl: Any = importlib.import_module("yarl")
    asked = quote(query, safe=_QUERY_SAFE)
    return yarl.URL.build(
        scheme="http", host=address.host, port=address.port, path=path, query_string=asked, encoded=True
    )


def _words(exc: Exception) -> str:
    """Return what went wrong, for a log: without the query of a URL, which may hold a ticket."""
    return _QUERY.sub("", str(exc)) or ("no answer in time" if isinstance(exc, TimeoutError) else type(exc).__name__)

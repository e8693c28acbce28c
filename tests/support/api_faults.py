"""A proxy before the API server that does to an operator what networks, load and clocks do. Used by `test_whole_*`.

It speaks plain HTTP to the operator and TLS to the API server, in a thread of its own. Only who has its kubeconfig
is disturbed: the stand-in for the kubelets and the test go straight to the API server.
"""

import asyncio
import datetime as dt
import json
import random
import re
import ssl
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import uvloop
import yarl
from aiohttp import web

from support.api_server import ApiServer
from support.processes import DEADLINE_S, free_port

JSON = dict[str, Any]
Strike = Literal["", "refuse", "lose"]
WRITES = ("POST", "PUT", "PATCH", "DELETE")
REASONS = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
_STAMPS = b"creation|deletion|lastTransition|started|finished|start|renew|acquire"
_MOMENT = re.compile(rb'("(?:' + _STAMPS + rb')(?:Timestamp|Time|At)":\s*")(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)')
_LOST = (aiohttp.ClientError, OSError)


class ApiFaults:
    """`with ApiFaults(server) as faults: operator(faults.kubeconfig(token))`."""

    def __init__(self, server: ApiServer, *, skew_s: float = 0.0, seed: int = 7) -> None:
        """`skew_s`: how far ahead the cluster's clock is of that of who asks through us."""
        self._server, self._skew_s = server, skew_s
        self._chance = random.Random(seed)
        self._port = free_port()
        self._tls: ssl.SSLContext | None = None
        self._loop = uvloop.new_event_loop()  # asyncio's own TLS breaks on a peer that aborts (Python 3.11.2)
        self._thread = threading.Thread(target=self._run, name="api faults", daemon=True)
        self._up = threading.Event()
        self._watches: set[asyncio.Transport] = set()
        self._flowing: dict[str, asyncio.Event] = {}
        self.refused_share = self.lost_share = 0.0
        """Of writes: how many are refused, and how many are done and the answer lost."""
        self.blocked = ""
        """Writes to paths with this in them get 503."""
        self.struck = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(DEADLINE_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(DEADLINE_S)

    def kubeconfig(self, token: str) -> Path:
        """Return a kubeconfig of who goes through us."""
        path = self._server.kubeconfig(token)
        config = json.loads(path.read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self._port}"}
        path.write_text(json.dumps(config))
        return path

    # What a test does

    def cut_watches(self) -> None:
        """Cut every connection that is watched over."""
        self._loop.call_soon_threadsafe(self._abort_watches)

    def hold_watches(self, part: str) -> None:
        """Let the watches of a path bring nothing until they are released; their connections live."""
        self._loop.call_soon_threadsafe(lambda: self._flow(part).clear())

    def release_watches(self, part: str) -> None:
        self._loop.call_soon_threadsafe(lambda: self._flow(part).set())

    # Its thread

    def _flow(self, part: str) -> asyncio.Event:
        if part not in self._flowing:
            self._flowing[part] = asyncio.Event()
            self._flowing[part].set()
        return self._flowing[part]

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # ends who still holds a watch
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._closing = asyncio.Event()
        trust = ssl.create_default_context(cafile=str(self._server.certificate))
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        async with aiohttp.ClientSession(connector=connector, read_bufsize=4 * 1024 * 1024) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=self._tls).start()
            self._up.set()
            await self._closing.wait()
            self._abort_watches()
            await runner.cleanup()
            await connector.close(abort_ssl=True)  # a farewell would wait for the server's
        for _ in range(10):  # transports are freed in turns of the loop that come after their close
            await asyncio.sleep(0.005)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        strike = self._strike(request)
        if strike == "refuse":
            return self._refusal(503 if self._is_blocked(request) else self._chance.choice((409, 429, 500)))
        url = yarl.URL(f"{self._server.url}{request.raw_path}", encoded=True)
        headers = {
            key: request.headers[key] for key in ("Authorization", "Accept", "Content-Type") if key in request.headers
        }
        body = _shifted(await request.read(), self._skew_s) or None
        patience = aiohttp.ClientTimeout(None, sock_connect=DEADLINE_S)
        try:
            async with self._session.request(
                request.method, url, data=body, headers=headers, timeout=patience
            ) as answer:
                if "watch" in request.query:
                    return await self._stream(request, answer)
                data = await answer.read()
        except _LOST:
            strike = "lose"
        if strike == "lose":
            _abort(request)
            return web.Response()
        kind = answer.headers.get("Content-Type", "application/json")
        return web.Response(body=_shifted(data, -self._skew_s), status=answer.status, headers={"Content-Type": kind})

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        transport = request.transport
        assert transport is not None
        self._watches.add(transport)
        try:
            async for line in answer.content:
                for part in [part for part in self._flowing if part in request.path]:
                    await self._flowing[part].wait()
                await response.write(_shifted(line, -self._skew_s))
        except _LOST:
            _abort(request)
        finally:
            self._watches.discard(transport)
        return response

    def _abort_watches(self) -> None:
        for each in list(self._watches):
            each.abort()

    # Strikes

    def _is_blocked(self, request: web.Request) -> bool:
        return bool(self.blocked) and self.blocked in request.path

    def _strike(self, request: web.Request) -> Strike:
        if request.method not in WRITES:
            return ""
        chance = self._chance.random()
        strike: Strike = ""
        if self._is_blocked(request) or chance < self.refused_share:
            strike = "refuse"
        elif chance < self.refused_share + self.lost_share:
            strike = "lose"
        self.struck += bool(strike)
        return strike

    @staticmethod
    def _refusal(code: int) -> web.Response:
        said = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "message": "struck by the test",
        }
        headers = {"Retry-After": "1"} if code == 429 else {}
        return web.json_response(said | {"reason": REASONS[code]}, status=code, headers=headers)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _shifted(data: bytes, seconds: float) -> bytes:
    """Return what one clock wrote as another one would have: the API server's stamps of objects."""
    if not seconds:
        return data
    delta = dt.timedelta(seconds=seconds)

    def shift(found: re.Match[bytes]) -> bytes:
        moment = dt.datetime.fromisoformat(found[2].decode()) + delta
        return found[1] + moment.isoformat().encode()

    return _MOMENT.sub(shift, data)

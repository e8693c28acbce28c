"""Health, readiness and metrics over HTTP: up before anything else, so that a probe always hears why not.

`/healthz` fails when a restart would help: the watch owes us changes, a run is stuck, workers are gone. A blocked
event loop answers nobody, which fails the probe as well. `/readyz` holds for a leader that works and for a standby
that could take over.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

from aiohttp import web

from rhapsode_operator.electing import Elector
from rhapsode_operator.errors import CannotRun
from rhapsode_operator.metrics import Metrics
from rhapsode_operator.probing import Pulse
from rhapsode_operator.queueing import RUN_S, Queue

OWED_S = 120.0
"""How long the watch may owe a change: kopf notices a silent connection after 70 s, then lists anew."""
STUCK_S = 3 * RUN_S
LAG_S = 10.0
BEAT_S = 1.0


class Health:
    """How this process is. `running` fills it in as parts come up."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.pulse = Pulse()
        self.queue: Queue | None = None
        self.elector: Elector | None = None
        self.workers = 0
        """How many reconcile workers there should be; 0 while we do not lead."""
        self.last_event_age: Callable[[], float] = float
        self.lag = 0.0

    def ills(self) -> list[str]:
        """Return what is wrong that a restart helps."""
        return list(self._ills(asyncio.get_running_loop().time()))

    def hindrances(self) -> list[str]:
        """Return why neither work is done nor could be taken over."""
        now = asyncio.get_running_loop().time()
        if self.elector is None:
            return ["starting"]
        silent = now - self.elector.heard_at
        return [*self._ills(now), *([f"the API server does not answer for {silent:.0f} s"] if silent > 30 else [])]

    def _ills(self, now: float) -> Iterator[str]:
        if (owed := self.pulse.overdue(now)) > OWED_S:
            yield f"the watch is dead: it owes a change for {owed:.0f} s"
        if self.queue is not None and (flight := self.queue.oldest_flight()) > STUCK_S:
            yield f"the queue is stuck: a run takes {flight:.0f} s already"
        if self.queue is not None and self.queue.workers_alive < self.workers:
            yield f"{self.queue.workers_alive} of {self.workers} workers live"
        if self.lag > LAG_S:
            yield f"the event loop was {self.lag:.0f} s late"

    async def beat(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(BEAT_S)
            self.lag = loop.time() - began - BEAT_S

    def measure(self) -> None:
        """Bring the gauges up to date."""
        now, metrics = asyncio.get_running_loop().time(), self._metrics
        metrics.loop_lag.set(self.lag)
        metrics.unseen_age.set(self.pulse.overdue(now))
        metrics.last_event_age.set(self.last_event_age())
        metrics.leader.set(self.elector is not None and self.elector.leading)
        if self.queue is not None:
            metrics.depth.set(self.queue.depth)
            metrics.flying.set(self.queue.flying)
            metrics.oldest_flight.set(self.queue.oldest_flight())


@asynccontextmanager
async def serve(health: Health, metrics: Metrics, host: str, port: int) -> AsyncIterator[None]:
    """Answer at this address. CannotRun if somebody else does."""
    runner = web.AppRunner(_app(health, metrics), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as exc:
        await runner.cleanup()
        raise CannotRun(f"{host}:{port} cannot be listened on ({exc.strerror}). Set RHAPSODE_PORT") from exc
    try:
        yield
    finally:
        await runner.cleanup()


def _app(health: Health, metrics: Metrics) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        return _judgement(health.ills())

    async def readyz(_: web.Request) -> web.Response:
        return _judgement(health.hindrances())

    async def page(_: web.Request) -> web.Response:
        health.measure()
        return web.Response(body=metrics.page(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    app = web.Application(middlewares=[_hang_up])
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", page)])
    return app


@web.middleware
async def _hang_up(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Keep no connection open: kopf would wait 5 s for each of their tasks when it stops."""
    answer = await handler(request)
    answer.force_close()
    return answer


def _judgement(wrong: list[str]) -> web.Response:
    text = "\n".join(wrong) or "ok"
    return web.Response(text=f"{text}\n", status=503 if wrong else 200)

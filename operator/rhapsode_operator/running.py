"""One operator process, from start to end: what starts when, and what ends before what. Called by `__main__`.

Start: HTTP, the checks, the Lease, then kopf; it cancels every task that it did not find when it began, so what must
outlive it starts before. The reconciler and the queue's workers start in its startup and end in its cleanup. End: the
workers finish what they do, the Lease is released, HTTP goes last.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from rhapsode_contract.lifelines import hold_signals, listen_for_stop
from rhapsode_contract.names import KIND
from rhapsode_operator.checking import check
from rhapsode_operator.electing import Elector
from rhapsode_operator.errors import OperatorError, RetryableError
from rhapsode_operator.kube import Kube, connect
from rhapsode_operator.metrics import Metrics
from rhapsode_operator.probing import Prober
from rhapsode_operator.queueing import Key, Queue
from rhapsode_operator.serving import Health, serve
from rhapsode_operator.settings import OperatorSettings
from rhapsode_operator.watched import Watched
from rhapsode_operator.watching import watch

STOP_S = 3.0
"""How long runs may take to finish when we stop."""
EXIT_LOST = 1


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a reconciler works with."""

    settings: OperatorSettings
    kube: Kube
    queue: Queue
    watched: Watched[Any, Any]
    metrics: Metrics


class Reconciler(Protocol):
    """Makes one resource so. Made when the process starts, started when it leads."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def reconcile(self, key: Key) -> float | None: ...


class Seam(Protocol):
    """What the reconciling half brings: how objects are kept, and who works on them."""

    def make_worker(self, body: dict[str, Any]) -> Any: ...
    def make_pod(self, body: dict[str, Any]) -> Any: ...
    def make_reconciler(self, parts: Parts) -> Reconciler: ...


async def run(settings: OperatorSettings, seam: Seam) -> None:
    """Run until SIGTERM. Raises CannotRun where no restart helps, and OperatorError when the watch ended."""
    metrics = Metrics()
    health = Health(metrics)
    # while kopf runs, handlers of its own do the same
    stop, _ = listen_for_stop(asyncio.get_running_loop(), os.environ)
    async with (
        serve(health, metrics, settings.host, settings.port),
        _beside(health.beat()),
        connect(metrics, connections=settings.workers + 8) as kube,
    ):
        elector = Elector(kube, settings)
        try:
            if await _before(stop, _start(kube, settings, health, elector)):
                await _lead(_Leader(settings, seam, kube, health, metrics), elector, stop)
        finally:
            await elector.release()


async def _start(kube: Kube, settings: OperatorSettings, health: Health, elector: Elector) -> None:
    await check(kube, settings)
    health.elector = elector
    await elector.acquire()


async def _lead(leader: "_Leader", elector: Elector, stop: asyncio.Event) -> None:
    """Work as long as we lead."""
    async with _beside(_die_with(elector)):
        await leader.work(elector, stop)


class _Leader:
    """What runs while we lead."""

    def __init__(self, settings: OperatorSettings, seam: Seam, kube: Kube, health: Health, metrics: Metrics) -> None:
        self._health, self._settings = health, settings
        self._queue = queue = Queue(metrics, resync_s=settings.resync_s)
        self._watched = watched = Watched[Any, Any](queue, health.pulse, seam.make_worker, seam.make_pod)
        parts = Parts(settings=settings, kube=kube, queue=queue, watched=watched, metrics=metrics)
        self._reconciler = seam.make_reconciler(parts)
        self._prober = Prober(kube, health.pulse, watched, settings.watch_namespaces)
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = False
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._elector: Elector | None = None
        kube.on_written = self._expect

    async def work(self, elector: Elector, stop: asyncio.Event) -> None:
        self._elector, self._stop = elector, stop
        try:
            await watch(
                self._watched,
                self._settings,
                on_start=self._begin,
                on_stop=self._end,
                ready=asyncio.Event(),
                stop=stop,
            )
        except Exception as exc:
            raise OperatorError(f"the watch ended: {_words(exc)}", reason="WatchEnded") from exc
        finally:
            await self._end()
        if self._failure is not None:
            raise OperatorError(f"the work ended: {_words(self._failure)}", reason="WorkEnded") from self._failure

    async def _begin(self) -> None:
        """Start what works; kopf's watch begins when this returns."""
        self._begun = True
        await self._reconciler.start()
        self._tasks = [asyncio.create_task(self._run_crew()), asyncio.create_task(self._prober.run())]
        for task in self._tasks:
            task.add_done_callback(self._mourn)

    def _mourn(self, task: asyncio.Task[None]) -> None:
        """End everything when a part ends that should not: a process that restarts is seen, one that idles is not."""
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
            self._stop.set()

    async def _run_crew(self) -> None:
        """Reconcile, but nothing before everything is known: a pod that was not seen yet would look missing."""
        await self._prober.sync()
        async with _beside(self._tell_when_working()):
            await self._queue.run(self._reconcile, self._settings.workers)

    async def _tell_when_working(self) -> None:
        while self._queue.workers_alive < self._settings.workers:
            await asyncio.sleep(0)
        self._health.queue, self._health.workers = self._queue, self._settings.workers
        self._health.last_event_age = self._watched.last_event_age

    async def _end(self) -> None:
        """Let runs finish, for a moment; a second call finds nothing to do."""
        hold_signals()  # kopf's handlers bear but one
        if not self._begun:
            return
        self._begun, self._health.workers = False, 0
        self._queue.close()
        if self._tasks and self._queue.workers_alive:
            await asyncio.wait(self._tasks[:1], timeout=STOP_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reconciler.stop()

    async def _reconcile(self, key: Key) -> float | None:
        if self._elector is None or not self._elector.leading:
            raise RetryableError("another operator may lead by now", reason="NotLeading")
        was_gone = self._watched.worker(key) is None
        seconds = await self._reconciler.reconcile(key)
        if was_gone and self._watched.worker(key) is None:  # one that goes meanwhile is worth a run that sees it
            self._queue.forget(key)
        return seconds

    def _expect(self, written: dict[str, Any]) -> None:
        """What we wrote must come back through the watch."""
        if written["kind"] in (KIND, "Pod"):
            metadata = written["metadata"]
            named = (written["kind"], metadata["namespace"], metadata["name"])
            self._health.pulse.expect(named, metadata["resourceVersion"], asyncio.get_running_loop().time())


def _words(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


async def _die_with(elector: Elector) -> None:
    """End the process at once when we lead no more: two that act are worse than none for a moment."""
    try:
        why = await elector.keep()
    except Exception as exc:  # else nobody would renew the Lease any more, and the process would idle
        why = f"the Lease cannot be kept: {type(exc).__name__}: {exc}"
    with contextlib.suppress(OSError):  # who reads it may be gone
        os.write(sys.stderr.fileno(), f"rhapsode-operator: {why}; ending at once\n".encode())
    os._exit(EXIT_LOST)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run something as long as the block runs."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run something unless we are stopped before; return whether it was done."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        return working.done()
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)

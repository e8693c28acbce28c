"""The work queue: which resource to reconcile next. `watching` and timers add keys, `running` runs the workers.

As client-go's: a key waits once however often it is added, is never in two workers, and runs again after a run
during which it was added. `Line` decides and knows no event loop; `Queue` is its workers and its one timer.
"""

import asyncio
import contextlib
import heapq
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

from rhapsode_operator.errors import ForbiddenError, OperatorError, RefusedError, RetryableError

Key = tuple[str, str]
"""Namespace and name of an InferenceWorker."""
Reconcile = Callable[[Key], Awaitable[float | None]]
"""Makes one resource so; returns in how many seconds it wants to be called again, None if nothing urges."""

RUN_S = 60.0
"""How long one run may take."""
FIRST_BACKOFF_S = 0.05
LAST_BACKOFF_S = 300.0
_log = logging.getLogger("rhapsode.operator.queue")


class QueueMeter(Protocol):
    """Counts what the queue does."""

    def added(self) -> None: ...
    def retried(self) -> None: ...
    def waited(self, seconds: float) -> None: ...
    def worked(self, result: str, seconds: float) -> None: ...


class Line:
    """Which keys wait, run and are due. Every moment is given by the caller."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Key, float] = OrderedDict()
        self._flying: dict[Key, float] = {}
        self._again: dict[Key, float] = {}
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []
        self._forgotten: set[Key] = set()

    def add(self, key: Key, now: float) -> bool:
        """Let a key wait; return whether that is news."""
        self._forgotten.discard(key)
        line = self._again if key in self._flying else self._waiting
        if key in line:
            return False
        line[key] = now
        return True

    def add_at(self, key: Key, due: float) -> None:
        """Let a key wait from a moment on; the earliest of several counts."""
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, key))

    def ring(self, now: float) -> int:
        """Let the keys wait whose moment has come; return how many that were."""
        rung = 0
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                rung += self.add(key, now)
        return rung

    def next_ring(self) -> float | None:
        """Return when `ring` has something to do."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # forgotten, or earlier now
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> tuple[Key, float] | None:
        """Return the key that waited longest and for how long; it is in flight until `done`."""
        if not self._waiting:
            return None
        key, since = self._waiting.popitem(last=False)
        self._flying[key] = now
        self._due.pop(key, None)  # this run decides anew
        return key, now - since

    def done(self, key: Key) -> tuple[bool, bool]:
        """End a flight; return whether the key waits again, and whether it was not forgotten meanwhile."""
        del self._flying[key]
        again = self._again.pop(key, None)
        if again is not None:
            self._waiting[key] = again
        wanted = key not in self._forgotten
        self._forgotten.discard(key)
        return again is not None, wanted

    def forget(self, key: Key) -> None:
        """Drop a key; what is in flight ends, and is not called again unless it is added anew."""
        self._waiting.pop(key, None)
        self._again.pop(key, None)
        self._due.pop(key, None)
        if key in self._flying:
            self._forgotten.add(key)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._again)

    @property
    def flying(self) -> int:
        return len(self._flying)

    def oldest_wait(self, now: float) -> float:
        """Return how long the first key has waited."""
        return now - next(iter(self._waiting.values()), now)

    def oldest_flight(self, now: float) -> float:
        """Return how long the longest run takes already."""
        return now - min(self._flying.values(), default=now)


class Queue:
    """The workers over a line."""

    def __init__(
        self,
        meter: QueueMeter,
        *,
        resync_s: float = 600.0,
        run_s: float = RUN_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._line = Line()
        self._meter = meter
        self._resync_s = resync_s
        self._run_s = run_s
        self._chance = chance
        self._failures: dict[Key, int] = {}
        self._work = asyncio.Semaphore(0)
        self._timer = asyncio.Event()
        self._closing = False
        self.workers_alive = 0

    # For those who add

    def add(self, key: Key) -> None:
        """Have a key reconciled soon."""
        if self._line.add(key, _now()):
            self._meter.added()
            self._work.release()

    def add_after(self, key: Key, seconds: float) -> None:
        """Have a key reconciled in some seconds, unless it is sooner anyway."""
        if seconds <= 0:
            return self.add(key)
        self._line.add_at(key, _now() + seconds)
        return self._timer.set()

    def forget(self, key: Key) -> None:
        """Drop all that is known of a key that is no more."""
        self._line.forget(key)
        self._failures.pop(key, None)

    # For those who look

    @property
    def depth(self) -> int:
        return len(self._line)

    @property
    def flying(self) -> int:
        return self._line.flying

    def oldest_wait(self) -> float:
        return self._line.oldest_wait(_now())

    def oldest_flight(self) -> float:
        return self._line.oldest_flight(_now())

    # For the one who runs

    async def run(self, reconcile: Reconcile, workers: int) -> None:
        """Work until `close`, or until cancelled."""
        self._closing = False
        async with asyncio.TaskGroup() as tasks:
            timer = tasks.create_task(self._ring())
            crew = [tasks.create_task(self._work_on(reconcile)) for _ in range(workers)]
            await asyncio.wait(crew)
            timer.cancel()

    def close(self) -> None:
        """Let the workers end what they do and take nothing more; `run` returns then."""
        self._closing = True
        for _ in range(self.workers_alive):
            self._work.release()

    async def _work_on(self, reconcile: Reconcile) -> None:
        self.workers_alive += 1
        try:
            while True:
                await self._work.acquire()
                if self._closing:
                    return
                if taken := self._line.take(_now()):
                    self._meter.waited(taken[1])
                    await self._run_one(taken[0], reconcile)
        finally:
            self.workers_alive -= 1

    async def _run_one(self, key: Key, reconcile: Reconcile) -> None:
        began, result, seconds = _now(), "cancelled", None
        try:
            result, seconds = await self._outcome(key, reconcile)
        finally:
            again, wanted = self._line.done(key)
            self._meter.worked(result, _now() - began)
            if again:
                self._work.release()
        if wanted and seconds is not None:
            self.add_after(key, seconds)

    async def _outcome(self, key: Key, reconcile: Reconcile) -> tuple[str, float | None]:
        """Run once; return what came of it and in how many seconds to run again."""
        try:
            async with asyncio.timeout(self._run_s):
                seconds = await reconcile(key)
        except RefusedError as exc:
            self._failures.pop(key, None)
            _tell(logging.WARNING, key, exc)
            return "refused", self._resync()  # a policy may be lifted, and nobody tells
        except ForbiddenError as exc:
            _tell(logging.ERROR, key, exc)
            return "forbidden", LAST_BACKOFF_S
        except OperatorError as exc:
            _tell(logging.INFO, key, exc)
            wish = exc.retry_after_s if isinstance(exc, RetryableError) else None
            return "retried", self._backoff(key, wish)
        except TimeoutError:
            _log.warning("%s/%s took longer than %g s", *key, self._run_s)
            return "timeout", self._backoff(key)
        except Exception:
            _log.exception("%s/%s could not be reconciled", *key)
            return "error", self._backoff(key)
        self._failures.pop(key, None)
        return "ok", self._resync() if seconds is None else seconds

    def _resync(self) -> float:
        return self._resync_s * (0.9 + 0.2 * self._chance())

    def _backoff(self, key: Key, wish: float | None = None) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._meter.retried()
        return wish if wish is not None else backoff(failures, self._chance())

    async def _ring(self) -> None:
        """Let keys wait when their moment comes: one timer for all of them."""
        while True:
            for _ in range(self._line.ring(_now())):
                self._meter.added()
                self._work.release()
            self._timer.clear()
            due = self._line.next_ring()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._timer.wait()


def backoff(failures: int, chance: float) -> float:
    """Return the seconds to wait after so many failures: doubling, and spread so that no herd forms."""
    return min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures, 30) * (0.8 + 0.4 * chance))


def _tell(level: int, key: Key, exc: OperatorError) -> None:
    _log.log(level, "%s/%s: %s", *key, exc.message, extra={"facts": {"reason": exc.reason}})


def _now() -> float:
    return asyncio.get_running_loop().time()

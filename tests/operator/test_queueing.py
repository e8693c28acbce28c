"""The work queue: what runs, and when it comes again."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from rhapsode_operator.errors import ForbiddenError, GoneError, RefusedError, RetryableError
from rhapsode_operator.queueing import Key, Queue, backoff
from support import virtual_time

A, B = ("ns", "a"), ("ns", "b")


class Meter:
    def __init__(self) -> None:
        self.adds = self.retries = 0
        self.waits: list[float] = []
        self.results: list[tuple[str, float]] = []

    def added(self) -> None:
        self.adds += 1

    def retried(self) -> None:
        self.retries += 1

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def worked(self, result: str, seconds: float) -> None:
        self.results.append((result, seconds))


class Runs:
    """Records when each key ran; `outcomes` is what its runs do, one after another, None at the end."""

    def __init__(self, *outcomes: float | Exception | None, takes: float = 0.0) -> None:
        self.at: list[float] = []
        self.outcomes = list(outcomes)
        self.takes = takes

    async def __call__(self, key: Key) -> float | None:
        self.at.append(asyncio.get_running_loop().time() - 1000)
        await asyncio.sleep(self.takes)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def gaps(self) -> list[float]:
        return [round(after - before, 3) for before, after in pairwise(self.at)]


def work(
    runs: Callable[[Key], Awaitable[float | None]],
    act: Callable[[Queue], Awaitable[None]],
    *,
    workers: int = 2,
    seconds: float = 100.0,
    run_s: float = 60.0,
) -> Meter:
    """Run a queue for some virtual time, with `act` beside it."""
    meter = Meter()

    async def scene() -> None:
        queue = Queue(meter, resync_s=600, run_s=run_s, chance=lambda: 0.5)
        task = asyncio.create_task(queue.run(runs, workers))
        await act(queue)
        await asyncio.sleep(seconds)
        queue.close()
        await asyncio.wait_for(task, 1000)

    virtual_time.run(scene())
    return meter


async def add_a(queue: Queue) -> None:
    queue.add(A)


def test_a_thousand_events_of_one_key_make_few_runs() -> None:
    runs = Runs(takes=1)

    async def act(queue: Queue) -> None:
        for _ in range(1000):
            queue.add(A)
            await asyncio.sleep(0.001)

    meter = work(runs, act)
    assert len(runs.at) == 2
    assert meter.adds == 2


def test_what_a_run_returns_is_when_the_next_one_comes() -> None:
    runs = Runs(5.0, 7.0)
    work(runs, add_a)
    assert runs.gaps() == [5, 7]


def test_without_a_wish_a_key_comes_again_at_the_resync() -> None:
    runs = Runs()
    work(runs, add_a, seconds=1300)
    assert runs.gaps() == [600, 600]


def test_an_event_comes_before_the_timer_and_the_timer_starts_anew() -> None:
    runs = Runs(50.0, 50.0)

    async def act(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(20)
        queue.add(A)

    work(runs, act)
    assert runs.gaps() == [20, 50]


def test_a_retryable_failure_backs_off_twice_as_long_each_time_up_to_five_minutes() -> None:
    runs = Runs(*[RetryableError("busy", reason="Busy") for _ in range(15)])
    meter = work(runs, add_a, seconds=1500)
    assert runs.gaps()[:14] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 300]
    assert meter.retries == 15


def test_a_success_forgives_the_failures_before_it() -> None:
    busy = RetryableError("busy", reason="Busy")
    runs = Runs(busy, busy, 1.0, busy)
    work(runs, add_a)
    assert runs.gaps() == [0.05, 0.1, 1, 0.05]


def test_the_servers_wish_counts_more_than_our_backoff() -> None:
    runs = Runs(RetryableError("slow down", reason="TooManyRequests", retry_after_s=7))
    work(runs, add_a)
    assert runs.gaps() == [7]


def test_what_is_refused_is_looked_at_again_at_a_change_and_at_the_resync() -> None:
    refused = RefusedError("bad", reason="Invalid")
    runs = Runs(refused, refused, refused)

    async def act(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(5)
        assert len(runs.at) == 1
        queue.add(A)

    work(runs, act, seconds=700)
    assert runs.gaps() == [5, 600], "a policy that was lifted tells nobody"


def test_what_is_forbidden_is_asked_again_seldom() -> None:
    runs = Runs(ForbiddenError("no", reason="Forbidden"))
    work(runs, add_a, seconds=400)
    assert runs.gaps() == [300]


@pytest.mark.parametrize("bug", [ValueError("a bug"), GoneError("no namespace", reason="NotFound")])
def test_any_other_failure_is_retried_and_stops_no_worker(bug: Exception) -> None:
    runs = Runs(bug)
    meter = work(runs, add_a, workers=1)
    assert runs.gaps() == [0.05]
    assert len(meter.results) == 2


def test_an_unknown_failure_is_logged_with_its_key(caplog: pytest.LogCaptureFixture) -> None:
    work(Runs(ValueError("a bug")), add_a)
    assert "ns/a could not be reconciled" in caplog.text
    assert "ValueError: a bug" in caplog.text


def test_a_run_that_takes_too_long_is_ended_and_comes_again() -> None:
    runs = Runs(takes=100)
    meter = work(runs, add_a, seconds=61, run_s=60)
    assert runs.gaps() == [60.05]
    assert meter.results[0] == ("timeout", 60)


def test_different_keys_run_at_once_but_one_key_never_twice() -> None:
    now: dict[Key, int] = {}
    most = 0

    async def run(key: Key) -> None:
        nonlocal most
        assert key not in now
        now[key] = 1
        most = max(most, len(now))
        await asyncio.sleep(1)
        del now[key]

    async def act(queue: Queue) -> None:
        for round_ in range(20):
            for number in range(8):
                queue.add(("ns", f"{number}"))
            await asyncio.sleep(0.1 * round_)

    meter = work(run, act, workers=4)
    assert most == 4
    assert {result for result, _ in meter.results} == {"ok"}


def test_a_forgotten_key_has_no_resync() -> None:
    runs: list[Key] = []

    async def act(queue: Queue) -> None:
        async def run(key: Key) -> None:
            runs.append(key)
            queue.forget(key)

        again.append(run)
        queue.add(A)

    again: list[Callable[[Key], Awaitable[None]]] = []

    async def late(key: Key) -> float | None:
        await again[0](key)
        return None

    work(late, act, seconds=5000)
    assert runs == [A]


def test_closing_lets_a_run_finish_and_starts_no_other() -> None:
    runs = Runs(takes=5)

    async def act(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(1)
        queue.add(B)

    meter = work(runs, act, workers=1, seconds=1)
    assert meter.results == [("ok", 5)]


def test_the_queue_tells_how_deep_and_how_old_it_is() -> None:
    async def act(queue: Queue) -> None:
        queue.add(A)
        await asyncio.sleep(1)
        queue.add(B)
        await asyncio.sleep(2)
        assert (queue.depth, queue.flying, queue.oldest_wait(), queue.oldest_flight()) == (1, 1, 2, 3)
        assert queue.workers_alive == 1

    work(Runs(takes=10), act, workers=1)


def test_backoff_spreads_and_never_exceeds_five_minutes() -> None:
    assert backoff(0, 0) < backoff(0, 0.5) < backoff(0, 1) < backoff(1, 0) < 0.1
    assert backoff(1000, 1) == 300

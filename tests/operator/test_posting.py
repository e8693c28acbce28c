"""Events are posted beside the reconciling: what goes wrong with one holds up nobody."""

import asyncio
from typing import Any

import pytest

from rhapsode_operator.errors import ForbiddenError, OperatorError, RetryableError
from rhapsode_operator.posting import MAX_WAITING, TRIES, Poster
from support import virtual_time

JSON = dict[str, Any]
BODY = {"reason": "Loading", "metadata": {"name": "w.1"}}
BUSY = RetryableError("busy", reason="InternalError", status=500)


class Cluster:
    """Answers one after another, the last for ever; None is success."""

    def __init__(self, *answers: OperatorError | None) -> None:
        self.answers, self.asked = list(answers), 0

    async def create_event(self, body: JSON) -> JSON:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer
        return body


class Results:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def event_posted(self, result: str) -> None:
        self.seen.append(result)


def post(cluster: Cluster, *bodies: JSON) -> list[str]:
    """Return how it went with each, after a while of virtual time."""
    results = Results()

    async def scene() -> None:
        poster = Poster(cluster, results)
        for body in bodies:
            poster.post(body)
        await poster.start()
        await asyncio.sleep(60)
        await poster.stop()

    virtual_time.run(scene())
    return results.seen


@pytest.mark.parametrize(
    ("answers", "result", "asked"),
    [
        ([None], "posted", 1),
        ([RetryableError("exists", reason="AlreadyExists", status=409)], "known", 1),
        ([ForbiddenError("no", reason="Forbidden", status=403)], "refused", 1),
        ([BUSY, BUSY, None], "posted", 3),
        ([BUSY], "failed", TRIES),
    ],
    ids=["at-once", "known", "forbidden", "later", "never"],
)
def test_how_it_goes_with_one_event(answers: list[OperatorError | None], result: str, asked: int) -> None:
    cluster = Cluster(*answers)
    assert post(cluster, BODY) == [result]
    assert cluster.asked == asked


def test_one_that_fails_does_not_stop_the_others() -> None:
    assert sorted(post(Cluster(BUSY, BUSY, BUSY, None), *[BODY] * 20)) == ["posted"] * 20


def test_what_does_not_fit_into_the_line_is_dropped_and_counted() -> None:
    seen = post(Cluster(None), *[BODY] * (MAX_WAITING + 3))
    assert (seen.count("dropped"), seen.count("posted")) == (3, MAX_WAITING)


def test_an_operator_that_stops_posts_what_waits() -> None:
    results = Results()

    async def scene() -> None:
        poster = Poster(Cluster(None), results)
        await poster.start()
        poster.post(BODY)
        await poster.stop()

    virtual_time.run(scene())
    assert results.seen == ["posted"]


def test_an_operator_that_stops_does_not_wait_for_ever() -> None:
    results = Results()

    async def scene() -> float:
        poster = Poster(Cluster(BUSY), results)
        await poster.start()
        for _ in range(100):
            poster.post(BODY)
        before = asyncio.get_running_loop().time()
        await poster.stop()
        return asyncio.get_running_loop().time() - before

    assert virtual_time.run(scene()) <= 2

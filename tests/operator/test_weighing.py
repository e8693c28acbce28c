"""Of several errors the status tells what lasts, and the queue hears what passes."""

import itertools

import pytest

from rhapsode_operator.errors import ForbiddenError, OperatorError, RefusedError, RetryableError
from rhapsode_operator.weighing import TAKEN_S, for_the_queue, verdict_on

BUSY = RetryableError("busy", reason="InternalError", status=500)
TAKEN = RefusedError("Pod w-1 exists", reason="NameTaken", status=409)
QUOTA = ForbiddenError("exceeded quota", reason="Forbidden", status=403)
INVALID = RefusedError("no such field", reason="Invalid", status=422)


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([BUSY], None),
        ([BUSY, TAKEN], "NameTaken"),
        ([TAKEN, QUOTA], "Forbidden"),
        ([BUSY, TAKEN, QUOTA, INVALID], "InvalidSpec"),
    ],
)
def test_the_status_tells_what_lasts_longest(errors: list[OperatorError], told: str | None) -> None:
    for order in itertools.permutations(errors):
        verdict = verdict_on(order)
        assert (verdict and verdict.reason) == told
    assert verdict_on([]) is None


def test_the_queue_hears_what_passes_soonest() -> None:
    for order in itertools.permutations([BUSY, QUOTA, INVALID]):
        assert for_the_queue(order) is BUSY
    assert for_the_queue([INVALID, QUOTA]) is QUOTA
    taken = for_the_queue([INVALID, TAKEN])
    assert isinstance(taken, RetryableError)
    assert (taken.reason, taken.retry_after_s) == ("NameTaken", TAKEN_S)

"""Weigh what went wrong in one look: what the status tells, what the queue hears. Called by `reconciling`. Pure."""

from collections.abc import Sequence

from rhapsode_contract.conditions import REASONS
from rhapsode_operator.errors import ForbiddenError, OperatorError, RefusedError, RetryableError
from rhapsode_operator.judging import Verdict

TAKEN_S = 30.0
"""How often a name is tried that another object has."""


def verdict_on(errors: Sequence[OperatorError]) -> Verdict | None:
    """Return the verdict on the error that will last longest; None if all will pass by themselves."""
    worst = max(errors, key=_lasts, default=None)
    if worst is None or not _lasts(worst):
        return None
    reason = worst.reason if worst.reason in REASONS else "InvalidSpec"
    reason = "Forbidden" if isinstance(worst, ForbiddenError) else reason
    return Verdict(reason, f"{worst.message[:500].rstrip('.')}. {REASONS[reason].remedy}")


def for_the_queue(errors: Sequence[OperatorError]) -> OperatorError:
    """Return the error that passes soonest: the queue decides by it when to try again.

    Nobody tells us when a name is free again, so look now and then.
    """
    soonest = min(errors, key=_lasts)
    if soonest.reason != "NameTaken":
        return soonest
    return RetryableError(soonest.message, reason=soonest.reason, status=soonest.status, retry_after_s=TAKEN_S)


def _lasts(error: OperatorError) -> int:
    if error.reason == "NameTaken":
        return 1
    return 2 if isinstance(error, ForbiddenError) else 3 if isinstance(error, RefusedError) else 0

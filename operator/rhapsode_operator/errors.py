"""Errors of the operator. Each has a `reason`: one word for logs, metrics and conditions.

* OperatorError
  - RetryableError   the same call may succeed later (409, 429, 5xx, no network); `retry_after_s` if the server knows
  - RefusedError     the API server will never take this (400, 422, an unknown field): wait for a change or a resync
  - ForbiddenError   the Role does not allow it (403): someone must act, so ask again seldom
  - GoneError        there is no such object, or no such kind (404, 410)
  - CannotRun        at start: nothing that a restart would help; `main` prints it and exits
"""


class OperatorError(Exception):
    """Something went wrong with the cluster; `status` is the HTTP status, 0 without one."""

    def __init__(self, message: str, *, reason: str, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.status = status


class RetryableError(OperatorError):
    """Not now. `retry_after_s` is the server's word; None leaves it to the caller's backoff."""

    def __init__(self, message: str, *, reason: str, status: int = 0, retry_after_s: float | None = None) -> None:
        super().__init__(message, reason=reason, status=status)
        self.retry_after_s = retry_after_s


class RefusedError(OperatorError):
    """What we sent is wrong, and stays wrong until the resource, the operator or a policy of the cluster changes."""


class ForbiddenError(OperatorError):
    """We may not do this."""


class GoneError(OperatorError):
    """What we spoke of is not there."""


class CannotRun(OperatorError):
    """The operator cannot do its work here: what, where, and what to do."""

    def __init__(self, message: str, *, reason: str = "CannotRun") -> None:
        super().__init__(message, reason=reason)

"""Errors of the relay.

* ApiError        an HTTP answer: `status`, stable `code`, OpenAI's `type`, whether to retry and when
  - BadRequest       400  the request itself is wrong
  - Unauthorized     401  no key, or a wrong one
  - NotFound         404  no such job, model or path
  - Misdirected      421  another replica sent this here, but it is not ours
  - RateLimited      429  the clients of this key have taken what they may
  - Unavailable      503  not now; `retry_after_s` says when
"""

from rhapsode_contract.events import ErrorBody


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retryable = retryable
        self.retry_after_s = retry_after_s

    def body(self) -> ErrorBody:
        return ErrorBody(message=self.message, type=error_type(self.status), code=self.code, param=self.param)


class BadRequest(ApiError):
    """The request itself is wrong."""

    def __init__(self, message: str, *, code: str = "invalid_request", param: str | None = None) -> None:
        super().__init__(400, code, message, param=param)


def unsupported(param: str, why: str) -> BadRequest:
    """Return the refusal of a wish that this worker cannot fulfil."""
    return BadRequest(f"{param}: {why}", code="unsupported", param=param)


class Unauthorized(ApiError):
    """The client shows no key that fits."""

    def __init__(self) -> None:
        message = "send 'Authorization: Bearer KEY' or 'X-Api-Key: KEY' with a key of this worker"
        super().__init__(401, "invalid_api_key", message)


class NotFound(ApiError):
    """There is no such thing here."""

    def __init__(self, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(404, code, message, param=param)


class Misdirected(ApiError):
    """Another replica sent this here, but it is not ours; a request is passed on once only."""

    def __init__(self, message: str) -> None:
        super().__init__(421, "misdirected", message)


class RateLimited(ApiError):
    """The clients of this key have taken what they may for now."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(429, "rate_limited", message, retryable=True, retry_after_s=retry_after_s)


class Unavailable(ApiError):
    """Not now. The same request may succeed in `retry_after_s` seconds."""

    def __init__(self, message: str, *, code: str, retry_after_s: int) -> None:
        super().__init__(503, code, message, retryable=True, retry_after_s=max(1, retry_after_s))


def error_type(status: int) -> str:
    """Return OpenAI's `type` for an HTTP status."""
    if status == 404:
        return "not_found_error"
    if status == 429:
        return "rate_limit_error"
    if status == 500:
        return "server_error"
    return "invalid_request_error" if status < 500 else "service_unavailable_error"

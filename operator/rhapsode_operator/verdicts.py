"""What an API server's refusal means for us. Pure; called by `kube`."""

from collections.abc import Mapping

import msgspec

from rhapsode_operator.errors import ForbiddenError, GoneError, OperatorError, RefusedError, RetryableError

UNBUILDABLE = "failed to create typed patch object"
"""How the API server says, with status 500, that a server-side apply names a field it does not know."""

ENDING = "because it is being terminated"
"""How it says, with status 403, that a namespace takes nothing new: nobody's rights are at fault."""


class StatusDetails(msgspec.Struct, rename="camel"):
    """The details of a Kubernetes `Status`."""

    retry_after_seconds: float | None = None


class StatusBody(msgspec.Struct):
    """A Kubernetes `Status`, as far as it tells why."""

    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> OperatorError:
    """Return the error of an answer with status 400 or above."""
    said = _read(body)
    reason = said.reason or f"Http{status}"
    message = f"{said.message or body[:200].decode(errors='replace').strip() or 'no words'} ({status})"
    if status == 403 and ENDING in said.message:
        return GoneError(message, reason=reason, status=status)
    if status == 403:
        return ForbiddenError(message, reason=reason, status=status)
    if status in (404, 410):
        return GoneError(message, reason=reason, status=status)
    if _is_final(status, said):
        return RefusedError(message, reason=reason, status=status)
    wait = _retry_after(headers, said)
    return RetryableError(message, reason=reason, status=status, retry_after_s=wait)


def _is_final(status: int, said: StatusBody) -> bool:
    if status >= 500:
        return UNBUILDABLE in said.message
    return status not in (401, 408, 409, 429)


def _retry_after(headers: Mapping[str, str], said: StatusBody) -> float | None:
    """Return the server's wish in seconds; a date, which the header may also be, is none."""
    try:
        return max(0.0, float(headers["Retry-After"]))
    except (KeyError, ValueError):
        seconds = said.details.retry_after_seconds if said.details else None
        return seconds or None


def _read(body: bytes) -> StatusBody:
    try:
        return msgspec.json.decode(body, type=StatusBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return StatusBody()

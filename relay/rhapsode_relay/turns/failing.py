"""How a turn fails: the codes, and the HTTP status that each is for a client that does not stream. Pure."""

STATUSES = {
    "invalid_inputs": 400,
    "unsupported": 400,
    "cancelled": 409,
    "outcome_invalid": 422,
    "narrative_too_long": 422,
    "context_required": 424,
    "internal_error": 500,
    "sink_required_failed": 502,
    "timeout": 504,
}


class TurnFailed(Exception):
    """A turn cannot go on. `logged` is what the log may say, where the message may hold words of others."""

    def __init__(self, code: str, message: str, *, retryable: bool = False, logged: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.logged = logged or message
        self.retryable = retryable


def status_of(code: str, *, retryable: bool) -> int:
    """Return the HTTP status of an error; what lies with the worker is 503 if it may be better later."""
    return STATUSES.get(code, 503 if retryable else 500)

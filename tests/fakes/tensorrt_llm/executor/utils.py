"""The one error that is a request's own."""


class RequestError(RuntimeError):
    """This request cannot be served; others can."""

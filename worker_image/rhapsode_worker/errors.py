"""Errors of the worker.

* WorkerError      a stable `reason`, what happened, and what a person can do about it
  - LoadError          the model cannot be served; `reason` is a condition reason
  - RequestError       one request cannot be served; `reason` is the `code` of its error event
"""


class WorkerError(Exception):
    """Something that did not work, with its remedy."""

    def __init__(self, reason: str, why: str, remedy: str) -> None:
        super().__init__(f"{why}. {remedy}")
        self.reason = reason
        self.why = why
        self.remedy = remedy


class LoadError(WorkerError):
    """The model cannot be served, and trying again would not help."""


class RequestError(WorkerError):
    """This request cannot be served; others can. `param` is the field of the request that is wrong."""

    def __init__(self, reason: str, why: str, remedy: str, *, param: str | None = None) -> None:
        super().__init__(reason, why, remedy)
        self.param = param

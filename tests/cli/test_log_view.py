"""What a play remembers of its processes' log lines: why it ended is told in the worker's own words."""

import json
from typing import Any

import pytest

from rhapsode.log_view import LogView

LOAD_FAILED = {"event": "load_failed", "level": "error", "message": "Could not load m: no room. Make room."}


def last_error_after(*records: dict[str, Any]) -> str:
    view = LogView(None, lifecycle_only=False)
    for record in records:
        view.line(json.dumps(record).encode() + b"\n")
    return view.last_error


def test_the_last_error_of_the_worker_s_life_is_kept() -> None:
    earlier = {"event": "worker_lost", "level": "error", "message": "The worker is gone"}
    assert last_error_after(earlier, LOAD_FAILED) == LOAD_FAILED["message"]


@pytest.mark.parametrize(
    "later",
    [
        {"event": "app", "level": "error", "message": "Exception in ASGI application"},
        {"event": "failed", "level": "error", "message": "the engine ended", "job_id": "sim-1"},
        {"event": "worker_lost", "level": "error", "message": "The worker is gone"},
        {"event": "ready", "level": "info", "message": "Ready"},
    ],
    ids=["a-library", "a-request", "what-came-of-it", "no-error"],
)
def test_what_is_no_error_of_its_life_does_not_hide_it(later: dict[str, Any]) -> None:
    assert last_error_after(LOAD_FAILED, later) == LOAD_FAILED["message"]

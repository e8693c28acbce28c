"""Log records: one JSON object a line on standard output, the same keys in every process.

`timestamp`, `level`, `component`, `event` (the stable code) and `worker_id` are always there, `job_id` and
`correlation_id` where there is one. Prompts and completions never get here: lengths only.
"""

import logging
import sys
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from rhapsode_contract.frames import Narration
from rhapsode_contract.wording import clean

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}


def timestamp(at: float | None = None) -> str:
    """Return a moment (seconds since the epoch; now if None) as RFC 3339 in UTC, to the millisecond."""
    seconds, millis = divmod(round((time.time() if at is None else at) * 1000), 1000)
    return f"{_second(seconds)}.{millis:03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class RecordFormatter(logging.Formatter):
    """Writes a record as one JSON line. Extra keys are given as `extra={"facts": {...}}`."""

    def __init__(self, component: str, worker_id: str) -> None:
        super().__init__()
        self._component = component
        self._worker_id = worker_id

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = getattr(record, "facts", {})
        line: dict[str, Any] = {
            "timestamp": timestamp(record.created),
            "level": _NAMES.get(record.levelno, "info"),
            "component": self._component,
            "event": record.name.rpartition(".")[2] if "event" not in facts else facts["event"],
            "worker_id": self._worker_id,
            "message": clean(record.getMessage(), limit=2000),
        }
        line |= {key: value for key, value in facts.items() if value not in (None, "") and key != "event"}
        if record.exc_info and record.exc_info[0] is not None:
            line["error_type"] = record.exc_info[0].__name__
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def log_to_stdout(component: str, worker_id: str, level: int = logging.INFO) -> logging.Logger:
    """Send this process's records to standard output, and return its logger."""
    # What no record of ours shows is not looked up for each: https://docs.python.org/3/howto/logging.html#optimization
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(RecordFormatter(component, worker_id))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    return logging.getLogger(f"rhapsode.{component}")


def log_narration(logger: logging.Logger, narration: Narration, correlation_id: str = "", **facts: Any) -> None:
    """Write the record of one narration: its action is the record's event."""
    facts |= {
        "event": narration.action,
        "actor": narration.actor,
        "target": narration.target,
        "progress": narration.progress,
        "job_id": narration.job_id,
        "correlation_id": correlation_id,
        "cute": narration.cute,
        "story": narration.story,
        "fields": narration.fields or None,
    }
    logger.log(_LEVELS[narration.level], "%s", narration.human, extra={"facts": facts})

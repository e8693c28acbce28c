"""Show the log lines of a play's processes: narration on a terminal, JSON elsewhere. Called by `playing`."""

import json
import sys
from typing import Any

from rhapsode.painting import Painter
from rhapsode_contract.catalogue import CATALOGUE


class LogView:
    """Takes JSON log lines. `lifecycle_only` leaves the stories of requests to whoever asks."""

    def __init__(self, painter: Painter | None, *, lifecycle_only: bool) -> None:
        self._painter = painter
        self._lifecycle_only = lifecycle_only
        self.last_error = ""
        """The last thing that went wrong in the worker's life, in its own words; a request that failed is none."""
        self.seen: set[str] = set()
        """Every event that was logged so far."""

    def line(self, raw: bytes) -> None:
        """Show one line, if it is to be shown."""
        record = _parse(raw)
        self.seen.add(record.get("event", ""))
        if record.get("level") == "error" and _is_of_a_life(record) and not self._follows(record):
            self.last_error = str(record.get("message", ""))
        if self._painter is None:
            sys.stdout.write(raw.decode(errors="replace"))
            sys.stdout.flush()
        elif not (self._lifecycle_only and "job_id" in record):
            self._paint(self._painter, record)

    def _follows(self, record: dict[str, Any]) -> bool:
        """Return whether an error is only what came of a load that failed, for which there are better words."""
        return record.get("event") == "worker_lost" and "load_failed" in self.seen

    def _paint(self, painter: Painter, record: dict[str, Any]) -> None:
        if painter.style == "off" or (record.get("event") not in CATALOGUE and "message" not in record):
            return
        words = str(record.get("message", ""))
        if painter.style in ("cute", "story"):
            words = str(record.get(painter.style, words))
        actor = str(record.get("actor", record.get("component", "")))
        painter.line(words, actor=actor, level=str(record.get("level", "info")))


def _is_of_a_life(record: dict[str, Any]) -> bool:
    """Return whether a record is of a process's life: neither of a request, nor a library's own word."""
    return record.get("event") in CATALOGUE and "job_id" not in record


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        record = json.loads(raw)
    except ValueError:
        return {"message": raw.decode(errors="replace").strip(), "level": "warn"}
    return record if isinstance(record, dict) else {"message": str(record)}

"""Log and count how far each stream is, of turns and of plain inference alike. Called by `jobs` through `conducting`.

Lengths and counts only: what a model or a client said never gets here.
"""

import logging
import time

from rhapsode_relay.counting import Counts
from rhapsode_relay.jobs import Job
from rhapsode_relay.phases import StreamPhase


class PhaseLog:
    """The records of all streams of one relay."""

    def __init__(self, logger: logging.Logger, counts: Counts) -> None:
        self._logger = logger
        self._counts = counts

    def tell(self, job: Job, phase: StreamPhase) -> None:
        """Write the record of a stream that got this far."""
        if job.hidden:
            return
        seconds = time.monotonic() - job.accepted_at
        self._counts.stream(phase, job.tokens, seconds)
        facts = {
            "event": "stream",
            "stream_phase": phase,
            "job_id": job.id,
            "correlation_id": job.terms.correlation_id,
            "token_count": job.tokens,
            "narrative_length": job.journal.text_chars,
            "is_valid": job.is_valid,
            "duration_ms": round(seconds * 1000, 3),
            "error_type": job.error.code if job.error else None,
        }
        level = logging.WARNING if phase == "error" else logging.INFO
        self._logger.log(level, "Stream: %s", phase, extra={"facts": facts})

"""The write budget of telemetry: when what a worker tells goes into the status. Pure; called by `writing`.

A new stage or phase, a pod more or less: at once, or half a second after the write before. An alarm: soon. Progress
and memory: at most every 30 s and by steps of 5 points, and in a long load ever less often (a fifth of the time that
the load has taken), so that a load of 20 minutes costs at most 25 writes. A quiet worker costs none.
"""

from typing import NamedTuple

MIN_GAP_S = 30.0
STAGE_GAP_S = 0.5
STEP = 5.0
"""Points of progress, and percent of all memory."""
ALARM_GAP_S = 2.0
SHARE = 0.2


class Gauge(NamedTuple):
    """What the budget looks at. `stage` is all that goes into the status at once, as one word."""

    stage: str
    alarms: int = 0
    percent: float | None = None
    used_share: float | None = None
    load_s: float = 0.0
    """How long the load has taken so far."""


class Written(NamedTuple):
    """What was written last, and when (seconds of the monotonic clock)."""

    gauge: Gauge
    at: float


def wait_s(last: Written | None, fresh: Gauge, now: float) -> float | None:
    """Return after how many seconds to write: 0 now, None if there is nothing worth a write."""
    if last is None:
        return 0.0
    if last.gauge.stage != fresh.stage:
        return max(0.0, last.at + STAGE_GAP_S - now)
    if last.gauge.alarms != fresh.alarms:
        return max(0.0, last.at + ALARM_GAP_S - now)
    moved = _moved(last.gauge.percent, fresh.percent) or _moved(last.gauge.used_share, fresh.used_share)
    if not moved:
        return None
    return max(0.0, last.at + max(MIN_GAP_S, SHARE * fresh.load_s) - now)


def _moved(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return before is not after
    return abs(after - before) >= STEP

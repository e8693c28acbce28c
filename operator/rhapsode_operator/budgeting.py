"""The write budget of telemetry: when what a worker tells goes into the status. Pure; called by `writing`.

A new phase, a pod more or less: at once, or half a second after the write before. A new stage, a warning: the same,
but only a few in a row, and then one every three minutes. Progress and memory: at most every 30 s and by steps of
5 points, and in a long load ever less often (a fifth of the time that the load has taken). So a load of 20 minutes
costs at most 25 writes, however noisy it is. A quiet worker costs none.
"""

from typing import NamedTuple

MIN_GAP_S = 30.0
HASTY_GAP_S = 0.5
ALARM_GAP_S = 2.0
STEP = 5.0
"""Points of progress, and percent of all memory."""
SHARE = 0.2
HASTY, PER_HASTY_S = 8, 180.0
"""How many stages and warnings are written at once, and how long it takes until there may be one more."""


class Gauge(NamedTuple):
    """What the budget looks at. `phase` and `stage` are all that goes into the status at once, as one word each."""

    phase: str
    stage: str = ""
    alarms: int = 0
    percent: float | None = None
    used_share: float | None = None
    load_s: float = 0.0
    """How long the load has taken so far."""
    ready: int = 0
    """Pods that serve: that of a new one must not be told as loading for a moment."""


class Written(NamedTuple):
    """What was written last, and when (seconds of the monotonic clock)."""

    gauge: Gauge
    at: float
    haste: float = 0.0
    """How many of the last writes were hasty, less what has been forgiven since."""


def write(last: Written | None, fresh: Gauge, now: float) -> Written:
    """Return what was written last, after a write."""
    if last is None:
        return Written(fresh, now)
    hasty = last.gauge.phase == fresh.phase and _is_hasty(last.gauge, fresh)
    return Written(fresh, now, min(HASTY, max(0.0, last.haste - (now - last.at) / PER_HASTY_S) + hasty))


def wait_s(last: Written | None, fresh: Gauge, now: float) -> float | None:
    """Return after how many seconds to write: 0 now, None if there is nothing worth a write."""
    if last is None:
        return 0.0
    if fresh.ready > last.gauge.ready:
        return 0.0
    if (last.gauge.phase, last.gauge.ready) != (fresh.phase, fresh.ready):
        return max(0.0, last.at + HASTY_GAP_S - now)
    dues = []
    if _is_hasty(last.gauge, fresh):
        gap_s = HASTY_GAP_S if last.gauge.stage != fresh.stage else ALARM_GAP_S
        dues.append(last.at + max(gap_s, (last.haste - HASTY + 1) * PER_HASTY_S))
    if has_moved(last.gauge.percent, fresh.percent) or has_moved(last.gauge.used_share, fresh.used_share):
        dues.append(last.at + max(MIN_GAP_S, SHARE * fresh.load_s))
    return max(0.0, min(dues) - now) if dues else None


def _is_hasty(before: Gauge, after: Gauge) -> bool:
    return (before.stage, before.alarms) != (after.stage, after.alarms)


def has_moved(before: float | None, after: float | None) -> bool:
    """Return whether a figure went on by a step, or began or ceased to be known."""
    if before is None or after is None:
        return before is not after
    return abs(after - before) >= STEP

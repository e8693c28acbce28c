"""Draw the facts of one worker as plain text that fits a screen. Pure. Called by `explaining`."""

import textwrap
from collections.abc import Iterator, Sequence

from rhapsode.kubectl.facts import Facts, Happening
from rhapsode_contract.statuses import LastExit, ReplicaStatus
from rhapsode_contract.wording import clean

NARROW, WIDE = 60, 160


def draw(facts: Facts, width: int) -> str:
    """Return the screen; lines are as wide as the terminal where that is sensible.

    Many may write a status or an Event, so no control character of theirs comes through.
    """
    width = min(WIDE, max(NARROW, width))
    parts = [_head(facts, width), _trouble(facts, width), _now(facts, width)]
    parts += [_conditions(facts), _pods(facts, width), _events(facts, width), _next(facts)]
    return "\n".join("\n".join(lines) + "\n" for part in parts if (lines := [_harmless(line) for line in part]))


def _harmless(line: str) -> str:
    return clean(line, limit=len(line))


def _head(facts: Facts, width: int) -> Iterator[str]:
    count = f"{facts.ready} of {facts.wanted} ready"
    yield from wrap(f"{facts.name} · {facts.phase} · {count} · {ago(facts.age_s)} old", width)
    yield from wrap(f"{facts.model} on {facts.engine or 'an engine not chosen yet'}", width)
    if facts.endpoint:
        yield facts.endpoint
    if facts.behind:
        yield from wrap(f"! {facts.behind}", width)


def _trouble(facts: Facts, width: int) -> Iterator[str]:
    if facts.failure is None:
        return
    yield f"{'STALLED' if facts.failure.stalled else 'TROUBLE'}  {facts.failure.reason}"
    for text in (facts.failure.message, f"→ {facts.failure.remedy}" if facts.failure.remedy else ""):
        yield from wrap(text, width, "  ", "  ")


def _now(facts: Facts, width: int) -> Iterator[str]:
    ready = next((one for one in facts.conditions if one.type == "Ready" and one.status != "True"), None)
    shown = {
        "Why ": ready.message if ready is not None and facts.failure is None else "",
        "Load": facts.load.summary if facts.load else "",
        "VRAM": _vram(facts),
        "Says": f"{facts.narration} ({ago(facts.narration_age_s)} ago)" if facts.narration else "",
    }
    for name, text in shown.items():
        if text:
            yield from wrap(f"{name}  {text}", width, "", " " * 6)


def _vram(facts: Facts) -> str:
    if facts.vram is None:
        return ""
    ill = [f"{gpu.uuid} of {gpu.pod}: {gpu.trouble or 'cannot be asked'}" for gpu in facts.gpus if not gpu.healthy]
    how = {"nvml": "as NVML measures it", "none": "no driver"}.get(facts.vram.source, "the driver cannot tell")
    return "; ".join([f"{facts.vram.summary or 'n/a'} ({how})", *ill])


def _conditions(facts: Facts) -> Iterator[str]:
    ages = facts.condition_ages_s
    rows = [(one.type, one.status, one.reason, ago(ages.get(one.type))) for one in facts.conditions]
    if rows:
        yield from table([("CONDITION", "STATUS", "REASON", "SINCE"), *rows])


def _pods(facts: Facts, width: int) -> Iterator[str]:
    if facts.pods:
        rows = [
            (one.pod, one.node or "-", "yes" if one.ready else "no", _load(one), _restarts(one), _exit(one.last_exit))
            for one in facts.pods
        ]
        yield from table([("POD", "NODE", "READY", "LOAD", "RESTARTS", "LAST EXIT"), *rows], width)


def _load(pod: ReplicaStatus) -> str:
    return pod.load.summary if pod.load and pod.load.summary else "-"


def _restarts(pod: ReplicaStatus) -> str:
    return f"{pod.restarts}, replaced {pod.replaced}" if pod.replaced else str(pod.restarts)


def _exit(end: LastExit | None) -> str:
    if end is None:
        return "-"
    said = f": {clean(end.message)}" if end.message else ""
    return f"{end.reason}, code {end.code}{said}"


def _events(facts: Facts, width: int) -> Iterator[str]:
    if facts.events:
        rows = [(ago(one.age_s), one.type, one.reason, told(one, facts.name)) for one in facts.events]
        yield from table([("AGO", "EVENT", "REASON", "MESSAGE"), *rows], width)


def told(event: Happening, name: str) -> str:
    """Return what an Event says, of which pod of the worker `name`, and how often."""
    about = "" if event.about in ("", name) or event.about in event.message else f"{event.about}: "
    return f"{about}{event.message}" + (f" ({event.count} times)" if event.count > 1 else "")


def _next(facts: Facts) -> Iterator[str]:
    if facts.next:
        yield "NEXT"
        yield from (f"  {command}" for command in facts.next)


def table(rows: Sequence[Sequence[str]], width: int = WIDE) -> Iterator[str]:
    """Yield lines of columns; the last one is wrapped to the width."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    for row in rows:
        start = "".join(f"{cell:<{room}}  " for cell, room in zip(row, widths, strict=False))
        room = max(24, width - len(start))
        first, *more = wrap(row[-1], room) or [""]
        yield (start + first).rstrip()
        yield from (" " * len(start) + line for line in more)


def wrap(text: str, width: int, first: str = "", then: str = "") -> list[str]:
    """Return lines; names with hyphens stay whole, so that they can be copied."""
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=then, break_on_hyphens=False)


def ago(seconds: float | None) -> str:
    """Return a span as people say it: 12 s, 5 min, 3 h, 9 d."""
    if seconds is None:
        return "?"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit != "min" and seconds >= size * 1.5):
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

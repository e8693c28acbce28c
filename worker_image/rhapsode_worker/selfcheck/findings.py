"""What a check finds, and the report that the findings make: as text for an issue, as JSON for a program. Pure.

A row's `outcome` is `ok`, `warning` (it works, and somebody should look), `failed`, or `skipped`: not checked, which
never counts as ok. `docs/selfcheck.md` says what the JSON holds; its names never change, more may come.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

Outcome = Literal["ok", "warning", "failed", "skipped"]
_OUTCOMES: tuple[Outcome, ...] = ("ok", "warning", "failed", "skipped")


class Finding(Struct, kw_only=True):
    """What one check found: in words, and its numbers in `facts`. One that is not well says what to do."""

    outcome: Outcome = "ok"
    measured: str
    remedy: str = ""
    lines: list[str] = []
    """What the engine printed last, where that may explain it."""
    facts: dict[str, Any] = {}


class Trouble(Exception):
    """A check cannot go on: what its finding is instead."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.measured)
        self.finding = finding


def failure(measured: str, remedy: str, lines: Sequence[str] = (), *, facts: dict[str, Any] | None = None) -> Finding:
    """Return the finding of something that does not work."""
    return Finding(outcome="failed", measured=measured, remedy=remedy, lines=list(lines), facts=facts or {})


def not_checked(why: str, remedy: str = "") -> Finding:
    """Return the finding of what could not be looked at."""
    return Finding(outcome="skipped", measured=why, remedy=remedy)


class Row(Struct, kw_only=True):
    """A finding under the name of its check, with how long it took."""

    name: str
    outcome: Outcome
    seconds: float
    measured: str
    remedy: str = ""
    lines: list[str] = []
    facts: dict[str, Any] = {}


def make_row(name: str, finding: Finding, seconds: float) -> Row:
    """Return the row of a check."""
    return Row(name=name, seconds=round(seconds, 3), **msgspec.structs.asdict(finding))


class Report(Struct, kw_only=True):
    """All of it. `result` is `failed` if a row is; `counts` has every outcome."""

    rhapsode: str
    engine: str
    model: str
    at: str
    result: Literal["ok", "failed"]
    counts: dict[Outcome, int]
    checks: list[Row]


def make_report(rows: list[Row], *, rhapsode: str, engine: str, model: str, at: str) -> Report:
    """Return the report of some rows."""
    found = Counter(row.outcome for row in rows)
    counts = {outcome: found[outcome] for outcome in _OUTCOMES}
    result: Literal["ok", "failed"] = "failed" if found["failed"] else "ok"
    return Report(rhapsode=rhapsode, engine=engine, model=model, at=at, result=result, counts=counts, checks=rows)


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def as_text(report: Report) -> str:
    """Return the report as lines that stand well in an issue."""
    head = f"rhapsode selfcheck {report.rhapsode} · {report.engine} · {report.model} · {report.at}"
    width = max((len(row.name) for row in report.checks), default=0)
    rows = [line for row in report.checks for line in _lines_of(row, width)]
    return "\n".join([head, "", *rows, "", _sum(report.counts), ""])


def _lines_of(row: Row, width: int) -> list[str]:
    indent = " " * (width + 21)
    told = f"{row.outcome:<8} {row.name:<{width}} {row.seconds:>7.1f} s  {row.measured}"
    remedy = [f"{indent}→ {row.remedy}"] if row.remedy else []
    return [told, *remedy, *(f"{indent}| {line}" for line in row.lines)]


def _sum(counts: dict[Outcome, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "nothing was checked"

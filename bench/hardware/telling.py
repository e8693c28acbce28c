"""A report as a page. Called by `__main__` and `storing`. Pure."""

from collections.abc import Iterable, Sequence

from bench.hardware.records import GIB, MIB, Check, Report, Round, Step

_HEAD = (
    "Made by `make hardware`; every figure was measured in that run. Memory is as NVML told our sampler, in MiB. It "
    "is told after so many ms: from CUDA's return, or the wish that the process ends, to a reading that shows it."
)
_MOCK = (
    "**The NVML library was not the driver's own (it opened no device of the kernel's driver): "
    "nothing here is about hardware.**"
)


def page(report: Report) -> str:
    """Return the report in Markdown."""
    parts = [
        f"# {_plain(report.gpu)}, {report.date}: {verdict(report)}",
        _HEAD,
        *([] if report.facts.drivers_own else [_MOCK]),
        _checks(report.checks),
        "## What it ran on",
        _table(("what", "found"), _found(report)),
        "## What the driver supports on this GPU",
        _table(("asked", "answered"), report.facts.supports.items()),
        *(part for one in report.rounds for part in _round(one)),
        *_held(report),
    ]
    return "\n\n".join(parts) + "\n"


def verdict(report: Report) -> str:
    return "passed" if report.passed else f"{sum(not check.passed for check in report.checks)} failed"


def _checks(checks: Sequence[Check]) -> str:
    return _table(("check", "", "how"), ((one.what, "passed" if one.passed else "FAILED", one.why) for one in checks))


def _found(report: Report) -> list[tuple[str, str]]:
    facts = report.facts
    listed = ", ".join(f"{one.name} ({_size(one.total_bytes)})" for one in facts.gpus)
    sample = f"median {facts.sample_median_us} µs, p99 {facts.sample_p99_us} µs of {facts.samples}"
    return [
        ("rhapsode", f"{report.version}, commit {report.commit}"),
        ("driver; NVML; CUDA", f"{facts.driver}; {facts.nvml}; {report.cuda}"),
        ("GPUs that NVML lists", listed),
        ("MIG", facts.mig_mode),
        ("one sample of all of them", sample),
        ("steps", f"{report.step_count} × {report.step_bytes // MIB} MiB, to be told within {report.limit_s:g} s"),
        ("may be off by", f"{report.tolerance_bytes // MIB} MiB"),
        (
            "the sampler's pace",
            f"{report.sampled_every}; longest time between two readings {report.longest_gap_s:.2f} s",
        ),
        ("used before anything was taken", f"{report.base_bytes // MIB} MiB"),
        ("nvmlSystemGetConfComputeSettings", report.conf_compute),
    ]


def _round(one: Round) -> list[str]:
    context = "was not seen" if one.context_bytes is None else f"{one.context_bytes / MIB:.1f} MiB"
    rows = [_row(step) for step in one.steps]
    head = ("step", "held MiB", "used before", "used after", "difference", "off by", "took ms", "told after ms")
    return [f"## A process takes memory, then {one.name}", _table(head, rows), f"The context alone: {context}."]


def _row(step: Step) -> tuple[str, ...]:
    change = step.used_after - step.used_before
    told = f"{step.told_ms:.0f}" if step.told_ms is not None else step.trouble or "not in time"
    used = (step.held_bytes // MIB, step.used_before // MIB, step.used_after // MIB)
    off = "" if step.off_bytes is None else f"{step.off_bytes / MIB:+.1f}"
    took = "" if step.took_ms is None else f"{step.took_ms:.1f}"
    return step.name, *map(str, used), f"{change / MIB:+.1f}", off, took, told


def _held(report: Report) -> list[str]:
    if report.held is None:
        return []
    return ["## What the sampler told while all was held", _table(("field", "told"), report.held.fields.items())]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in lines)


def _plain(text: str) -> str:
    """Return text that breaks no table, whatever a driver says."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return printable.replace("|", "/").replace("<", "‹").replace("`", "'").replace("[", "(").replace("]", ")")


def _size(size: int | None) -> str:
    return "memory not told" if size is None else f"{size / GIB:.1f} GiB"

"""What has to hold, and whether it did. Called by `__main__`. Pure."""

from collections.abc import Iterator, Sequence

from bench.hardware.records import ENDS, KILLED, MIB, STOPPED, TOLERANCE, Check, Held, Round, Step

_NOT_REACHED = "was not reached"


def judge(
    rounds: Sequence[Round], steps: int, held: Held | None, troubles: Sequence[str], shield: tuple[bool, str]
) -> list[Check]:
    """Return the checks of a report: always all of them, in its order. What was not reached has not passed."""
    every = [step for one in rounds for step in one.steps]
    taken = [step for step in every if step.name.startswith("take")]
    given = [step for step in every if step.name.startswith("give")]
    return [
        _all("Taken memory is told, to the size", taken, 2 * steps),
        _hold(held),
        _all("Memory given back is told, to the size", given, steps),
        *(_ended(name, [one for one in rounds if one.name == name]) for name in (ENDS, KILLED)),
        _untroubled([step for step in every if step.name == STOPPED], troubles),
        Check("nvmlSystemGetConfComputeSettings does no harm, called by address", *shield),
    ]


def _all(what: str, steps: Sequence[Step], count: int) -> Check:
    wrong = list(_wrong(steps))
    if len(steps) < count:
        wrong.append(f"{len(steps)} of {count} were reached" if steps else _NOT_REACHED)
    return Check(what, not wrong, "; ".join(wrong) or _right(steps))


def _ended(name: str, rounds: Sequence[Round]) -> Check:
    what = f"All is back when {name}"
    if not rounds:
        return Check(what, False, _NOT_REACHED)
    last = rounds[0].steps[-1:]
    if any(step.name == STOPPED for step in rounds[0].steps):
        back = "; ".join(_wrong(last)) or "what it held until then is back"
        return Check(what, False, f"{_NOT_REACHED}; {back}")
    return _all(what, last, 1)


def _wrong(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        off = step.off_bytes or 0
        if step.trouble:
            yield f"{step.name}: {step.trouble}"
        elif step.told_ms is None:
            yield f"{step.name}: NVML told {_mib(abs(off))} too {'much' if off > 0 else 'little'}"


def _right(steps: Sequence[Step]) -> str:
    most = max(abs(step.off_bytes or 0) for step in steps)
    latest = max(step.told_ms or 0 for step in steps)
    return f"off by at most {_mib(most)}, told within {latest:.0f} ms"


def _hold(held: Held | None) -> Check:
    what = "Held memory stays as told"
    if held is None:
        return Check(what, False, _NOT_REACHED)
    if not held.samples:
        return Check(what, False, f"NVML told nothing for {held.seconds:g} s")
    words = f"off by at most {_mib(held.most_off_bytes)} in {held.samples} readings"
    return Check(what, held.most_off_bytes <= TOLERANCE, words)


def _untroubled(stopped: Sequence[Step], troubles: Sequence[str]) -> Check:
    words = dict.fromkeys([step.trouble for step in stopped] + list(troubles))
    return Check("Nothing failed on the way, and no Xid came", not words, "; ".join(words) or "none")


def _mib(size: int) -> str:
    return f"{size / MIB:.1f} MiB"

"""Grow and shrink a known allocation, and take what the sampler tells of it. Called by `__main__`.

Every wait is bounded. What fails ends its round early: then what came of the memory held so far is still measured.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.hardware.asking_holder import Holder, HolderFailed
from bench.hardware.hearing import Heard, Hearing
from bench.hardware.records import ENDS, KILLED, MIB, STOPPED, TOLERANCE, Held, Round, Step

_QUIET_READINGS = 3
_FIRST_S = 30.0
"""How long the first readings may take: opening a driver that nobody keeps open takes seconds."""
NO_CONTEXT = (
    "CUDA takes no memory here: {}. See that a CUDA program runs here; in a container the driver's capabilities must "
    "include compute."
)
_LEAST_STEP, _GRAIN = 64 * MIB, 2 * MIB
_MOST_SHARE = 0.6


class NotMeasurable(Exception):
    """Nothing can be measured here now; the words say why and what to do."""


@dataclass(frozen=True)
class Plan:
    """What is done. `limit_s` bounds how long NVML may take to show a change, `call_limit_s` each call of CUDA."""

    step_bytes: int
    steps: int
    hold_s: float
    limit_s: float
    call_limit_s: float


@dataclass
class _Level:
    """Where things stand: what NVML told last, what is held, and what it tells when nothing is."""

    used: int
    floor: int
    held: int = 0
    steps: list[Step] = field(default_factory=list)


def fit(sight_free: int, wanted: int, steps: int) -> int:
    """Return the size of a step: what is wanted, if all steps together leave enough free."""
    size = min(wanted, int(sight_free * _MOST_SHARE) // steps) // _GRAIN * _GRAIN
    if size < _LEAST_STEP:
        raise NotMeasurable(
            f"the GPU has {sight_free // MIB} MiB free: too little for {steps} steps of {_LEAST_STEP // MIB} MiB and "
            "some room. End what uses it, or choose fewer --steps."
        )
    return size


def listen_for_quiet(hearing: Hearing) -> Heard:
    """Return the last of the first readings, when nobody else moves the GPU's memory."""
    now = time.monotonic()
    first = hearing.wait(now, _FIRST_S, lambda heard: heard if len(heard) >= _QUIET_READINGS else None)
    if first is None:
        why = "; ".join(hearing.troubles) or "no error"
        raise NotMeasurable(f"NVML told too little within {_FIRST_S:.0f} s ({why}). See that nvidia-smi works.")
    moved = max(one.used for one in first) - min(one.used for one in first)
    if moved > TOLERANCE:
        raise NotMeasurable(
            f"the GPU's memory moves by {moved // MIB} MiB while we hold none: someone else uses it. "
            "End that, or choose another --gpu."
        )
    return first[-1]


class Measuring:
    """The rounds on one GPU."""

    def __init__(self, uuid: str, plan: Plan, hearing: Hearing, say: Callable[[str], None]) -> None:
        self._uuid, self._plan, self._hearing, self._say = uuid, plan, hearing, say
        self.cuda = "not told"
        self.held: Held | None = None

    def rounds(self, base: int) -> list[Round]:
        """Grow, hold, shrink and end; then grow, and be killed with all of it held. A failure ends it all."""
        first = self._round(ENDS, base, self._grow_hold_shrink, Holder.end)
        if first.steps[0].name == STOPPED:
            raise NotMeasurable(NO_CONTEXT.format(first.steps[0].trouble))
        if first.steps[-2].name == STOPPED:
            return [first]
        return [first, self._round(KILLED, self._hearing.since(0)[-1].used, self._grow, Holder.kill)]

    def _round(
        self, name: str, base: int, work: Callable[[Holder, _Level], None], leave: Callable[[Holder], None]
    ) -> Round:
        self._say(f"a process takes memory, then {name}")
        level = _Level(used=base, floor=base)
        holder = Holder(self._uuid, self._plan.call_limit_s)
        try:
            trouble = self._work(holder, level, work)
            self._leave(holder, level, base, Holder.kill if trouble else leave)
        finally:
            holder.close()
        opened = level.floor - base if level.steps[0].told_ms is not None else None
        return Round(name, level.steps, opened)

    def _work(self, holder: Holder, level: _Level, work: Callable[[Holder, _Level], None]) -> bool:
        """Do a round's work; return whether it failed."""
        try:
            self._open(holder, level)
            work(holder, level)
        except HolderFailed as exc:
            self._add(level, Step(STOPPED, level.held, level.used, level.used, trouble=str(exc)))
            return True
        return False

    def _open(self, holder: Holder, level: _Level) -> None:
        """Open the context; what it costs is seen when two readings agree."""
        answer = holder.ask("open")
        self.cuda = answer.version
        settled = self._hearing.wait(answer.done_at, self._plan.limit_s, _settled)
        used = settled.used if settled else level.used
        told = max(0.0, (settled.at - answer.done_at) * 1000) if settled else None
        self._add(level, Step("open the context", 0, level.used, used, answer.took_ms, told))
        level.floor = used

    def _grow_hold_shrink(self, holder: Holder, level: _Level) -> None:
        self._grow(holder, level)
        self._hold(level)
        for number in range(1, self._plan.steps + 1):
            self._change(holder, level, f"give back, {number} of {self._plan.steps}", "give", -self._plan.step_bytes)

    def _grow(self, holder: Holder, level: _Level) -> None:
        for number in range(1, self._plan.steps + 1):
            size = self._plan.step_bytes
            self._change(holder, level, f"take, {number} of {self._plan.steps}", f"take {size}", size)

    def _change(self, holder: Holder, level: _Level, name: str, command: str, size: int) -> None:
        asked = time.monotonic()
        answer = holder.ask(command)
        level.held += size
        self._see(level, name, level.floor + level.held, (asked, answer.done_at), answer.took_ms)

    def _hold(self, level: _Level) -> None:
        """Hold for a while: what NVML tells should stay."""
        began = time.monotonic()
        self._hearing.wait(began, self._plan.hold_s, lambda _: None)
        heard = self._hearing.since(began)
        known = level.floor + level.held
        most = max((abs(one.used - known) for one in heard), default=0)
        self.held = Held(self._plan.hold_s, len(heard), most, _fields(heard[-1]) if heard else {})

    def _leave(self, holder: Holder, level: _Level, base: int, leave: Callable[[Holder], None]) -> None:
        """Let the holder's process end, and see all come back."""
        asked, level.held = time.monotonic(), 0
        name = "kill -9" if leave is Holder.kill else "end"
        try:
            leave(holder)
        except HolderFailed as exc:
            self._add(level, Step(name, 0, level.used, level.used, trouble=str(exc)))
            return
        took = (time.monotonic() - asked) * 1000
        self._see(level, name, base, (asked, asked), took)

    def _see(self, level: _Level, name: str, known: int, times: tuple[float, float], took_ms: float) -> None:
        """Wait for the sampler to tell what is known. `times`: when it was asked for, and when it was done."""
        asked, done = times
        found = self._hearing.wait(asked, self._plan.limit_s, lambda heard: _near(heard, known))
        last = found or next(iter(self._hearing.since(asked)[-1:]), None)
        used = last.used if last else level.used
        told = max(0.0, (found.at - done) * 1000) if found else None
        trouble = "" if last else "NVML told nothing"
        self._add(level, Step(name, level.held, level.used, used, took_ms, told, used - known, trouble))

    def _add(self, level: _Level, step: Step) -> None:
        level.steps.append(step)
        level.used = step.used_after
        told = f"told after {step.told_ms:.0f} ms" if step.told_ms is not None else step.trouble or "not told in time"
        self._say(f"{step.name}: {step.held_bytes // MIB} MiB held, NVML {step.used_after // MIB} MiB, {told}")


def _settled(heard: list[Heard]) -> Heard | None:
    """Return the first reading that the one after it confirms."""
    return next((one for one, after in itertools.pairwise(heard) if abs(after.used - one.used) <= MIB), None)


def _near(heard: list[Heard], known: int) -> Heard | None:
    return next((one for one in heard if abs(one.used - known) <= TOLERANCE), None)


def _fields(heard: Heard) -> dict[str, str]:
    """Return what else the sampler told of the GPU."""
    sight = heard.sight
    fields = {
        "reserved": sight.reserved_bytes is not None and f"{sight.reserved_bytes // MIB} MiB",
        "utilisation": sight.utilization is not None and f"{sight.utilization:.0%}",
        "temperature": sight.temperature_c is not None and f"{sight.temperature_c} °C",
        "power": sight.power_w is not None and f"{sight.power_w} W",
        "power limit": sight.power_limit_w is not None and f"{sight.power_limit_w} W",
        "throttled by": ", ".join(sight.throttle) or "nothing that it told",
    }
    return {name: value or "not told" for name, value in fields.items()}

"""Follow a load: what it is doing, how far it is, how long that usually takes. Called by `supervising`. Pure.

Turns lifecycle narrations into `load` frames, keeps progress from being told too often and silence from lasting
too long.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rhapsode_contract import frames
from rhapsode_contract.catalogue import narrate

SILENCE_S = 5.0
"""Seconds of work without a word after which one is said."""
PROGRESS_S = 0.25
"""Seconds between two tellings of progress of the same thing."""

_VISITS = 9
"""How often a stage is told apart from itself."""
_DOING = {
    "model_fetch": "fetching the model",
    "model_wait": "fetching the model",
    "engine_import": "importing {engine}",
    "engine_imported": "setting up {engine}",
    "engine_spawn": "starting the worker process of {engine}",
    "weights_room": "taking memory for the weights",
    "weights_size": "loading weights",
    "checkpoint_read": "reading the checkpoint",
    "weights_load": "loading weights",
    "engine_build": "compiling",
    "kv_cache_alloc": "reserving the KV cache",
    "autotune": "autotuning {again}",
    "graphs_capture": "capturing CUDA graphs {again}",
    "engine_settled": "warming up",
    "warmup": "warming up",
    "load_stage": "{stage}",
}

_ANEW = {"model_resume"}
"""What is said when something goes on from an earlier point: progress may be less than it was."""


class LoadTracker:
    """One load, from its beginning to `ready`. `usual` is how many seconds each stage took last time, in order.

    A stage that is entered again is another one to them: its name ends in the number of the visit then.
    """

    def __init__(self, now: float, usual: Mapping[str, float]) -> None:
        self.doing = ""
        self.took: dict[str, float] = {}
        self._usual = usual
        self._visit = ""
        self._visits: Counter[str] = Counter()
        self._stage_at = now
        self._told_at = now
        self._progress_at = 0.0
        self._progress = 0.0
        self._due: float | None = None

    def admit(self, narration: frames.Narration, now: float) -> bool:
        """Return whether a narration is to be told; progress goes back only with a word; 4 a second are told."""
        doing = _doing(narration)
        if narration.action in _ANEW:
            self._progress = -1.0
        if doing and doing != self.doing:
            self._enter(doing, now)
        elif narration.progress is not None and doing:
            done = narration.progress >= 1 > self._progress
            if narration.progress <= self._progress or (now - self._progress_at < PROGRESS_S and not done):
                return False
        if narration.progress is not None:
            self._progress, self._progress_at = narration.progress, now
        self._told_at = now
        return True

    def load_frame(self, narration: frames.Narration, now: float) -> frames.Load | None:
        """Return what programs are told, for a narration about a stage."""
        if not _doing(narration):
            return None
        percent = None if narration.progress is None else _percent(narration.progress)
        eta_s = self._eta(narration.fields, now)
        return frames.Load(stage=self.doing, percent=percent, eta_s=eta_s, ready_in_s=self.ready_in(now))

    def standing(self, now: float) -> frames.Load | None:
        """Return what programs are told when nothing new is known; what is overdue has no known end."""
        if not self.doing:
            return None
        return frames.Load(
            stage=self.doing, percent=_percent(self._progress), eta_s=self._left(now), ready_in_s=self.ready_in(now)
        )

    def still(self, now: float) -> frames.Narration | None:
        """Return what is said when it has been silent for too long."""
        if not self.doing or now - self._told_at < SILENCE_S:
            return None
        self._told_at = now
        fields = {
            "doing": self.doing,
            "elapsed_s": round(now - self._stage_at, 1),
            "usual_s": self.usual(self.doing),
            "ready_in_s": self.ready_in(now),
        }
        return narrate("still", fields)

    def finish(self, now: float) -> dict[str, float]:
        """Return how long each stage took."""
        self._enter("", now)
        return self.took

    def ready_in(self, now: float) -> float | None:
        """Return how long the whole load still takes, if that is known of this stage and of each that follows it.

        What came before it last time is over, or was not needed this time.
        """
        stages = list(self._usual)
        if self._visit not in self._usual:
            return None
        left = self._left(now) if self._due is not None else self._usual[self._visit] - (now - self._stage_at)
        if left is None or left < 0:
            return None
        return round(left + sum(self._usual[one] for one in stages[stages.index(self._visit) + 1 :]), 1)

    def usual(self, doing: str) -> float | None:
        """Return how long a stage took last time; None if it is new, or too short to speak of."""
        seconds = self._usual.get(self._visit if doing == self.doing else doing)
        return seconds if seconds is not None and seconds >= 1 else None

    def _enter(self, doing: str, now: float) -> None:
        if self.doing:
            self.took[self._visit] = round(self.took.get(self._visit, 0) + now - self._stage_at, 2)
        self.doing, self._stage_at, self._progress, self._due = doing, now, -1.0, None
        self._visits[doing] = min(self._visits[doing] + 1, _VISITS)
        self._visit = doing if self._visits[doing] == 1 else f"{doing} ({self._visits[doing]})"

    def _eta(self, fields: Mapping[str, Any], now: float) -> float | None:
        usual = self.usual(self.doing)
        if "eta_s" in fields:
            self._due = now + float(fields["eta_s"])
        else:
            self._due = None if usual is None else self._stage_at + usual
        return None if self._due is None else max(0.0, round(self._due - now, 1))

    def _left(self, now: float) -> float | None:
        """Return how long the stage still takes; what is overdue has no known end."""
        return None if self._due is None or self._due < now else round(self._due - now, 1)


def _percent(progress: float) -> float | None:
    return None if progress < 0 else round(progress * 100, 1)


def _doing(narration: frames.Narration) -> str:
    return _DOING.get(narration.action, "").format_map(_Blank(narration.fields)).strip()


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""

"""Follow a load: what it is doing, how far it is, how long that usually takes. Called by `supervising`. Pure.

Turns lifecycle narrations into `load` frames, keeps progress from being told too often and silence from lasting
too long.
"""

from collections.abc import Mapping
from typing import Any

from rhapsode_contract import frames
from rhapsode_contract.catalogue import narrate

SILENCE_S = 5.0
"""Seconds of work without a word after which one is said."""
PROGRESS_S = 0.25
"""Seconds between two tellings of progress of the same thing."""

_DOING = {
    "model_fetch": "fetching the model",
    "model_wait": "fetching the model",
    "engine_import": "importing {engine}",
    "weights_load": "loading weights",
    "engine_build": "compiling",
    "kv_cache_alloc": "reserving the KV cache",
    "graphs_capture": "capturing CUDA graphs",
    "warmup": "warming up",
    "load_stage": "{stage}",
}

_ANEW = {"model_resume"}
"""What is said when something goes on from an earlier point: progress may be less than it was."""


class LoadTracker:
    """One load, from its beginning to `ready`. `usual` is how many seconds each stage took last time."""

    def __init__(self, now: float, usual: Mapping[str, float]) -> None:
        self.doing = ""
        self.took: dict[str, float] = {}
        self._usual = usual
        self._stage_at = now
        self._told_at = now
        self._progress_at = 0.0
        self._progress = 0.0

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
        percent = None if narration.progress is None else round(narration.progress * 100, 1)
        return frames.Load(stage=self.doing, percent=percent, eta_s=self._eta(narration.fields, now))

    def still(self, now: float) -> frames.Narration | None:
        """Return what is said when it has been silent for too long."""
        if not self.doing or now - self._told_at < SILENCE_S:
            return None
        self._told_at = now
        fields = {
            "doing": self.doing,
            "elapsed_s": round(now - self._stage_at, 1),
            "usual_s": self.usual(self.doing),
        }
        return narrate("still", fields)

    def finish(self, now: float) -> dict[str, float]:
        """Return how long each stage took."""
        self._enter("", now)
        return self.took

    def usual(self, doing: str) -> float | None:
        """Return how long a stage took last time; None if it is new, or too short to speak of."""
        seconds = self._usual.get(doing)
        return seconds if seconds is not None and seconds >= 1 else None

    def _enter(self, doing: str, now: float) -> None:
        if self.doing:
            self.took[self.doing] = round(now - self._stage_at, 2)
        self.doing, self._stage_at, self._progress = doing, now, -1.0

    def _eta(self, fields: Mapping[str, Any], now: float) -> float | None:
        if "eta_s" in fields:
            return float(fields["eta_s"])
        usual = self.usual(self.doing)
        return None if usual is None else max(0.0, round(usual - (now - self._stage_at), 1))


def _doing(narration: frames.Narration) -> str:
    return _DOING.get(narration.action, "").format_map(_Blank(narration.fields))


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return ""

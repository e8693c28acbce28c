"""Hear what our sampler reports of one GPU, and wait for it in bounded time. Used by `measuring`.

The sampler is the worker's own, in its own thread and at its own pace, unless it is asked to hurry.
"""

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bench.hardware.patience import Patience
from rhapsode_worker.sampling import Sampler
from rhapsode_worker.sightings import Reading, Sight

T = TypeVar("T")


@dataclass(frozen=True)
class Heard:
    """What was told of the GPU, and when."""

    at: float
    sight: Sight
    used: int


class Hearing:
    """All that is heard of one GPU, from `start` to `stop`."""

    def __init__(self, uuid: str, every_s: float | None = None) -> None:
        self._uuid, self._every_s = uuid, every_s
        self._news = threading.Condition()
        self._stopped = threading.Event()
        self._heard: list[Heard] = []
        self.troubles: list[str] = []
        self.sampler = Sampler(self._report)

    def start(self) -> None:
        self.sampler.start()
        if self._every_s is not None:
            threading.Thread(target=self._hurry, name="hurry", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self.sampler.stop()

    def since(self, moment: float) -> list[Heard]:
        """Return what was told after a moment of the monotonic clock."""
        with self._news:
            return self._after(moment)

    def wait(self, moment: float, seconds: float, wanted: Callable[[list[Heard]], T | None]) -> T | None:
        """Return the first thing wanted of what is told after a moment; None when the time is over."""
        patience = Patience(seconds)
        with self._news:
            while (found := wanted(self._after(moment))) is None and (left := patience.slice()):
                self._news.wait(left)
            return found

    def longest_gap_s(self) -> float:
        """Return the longest time between two readings."""
        with self._news:
            times = [one.at for one in self._heard]
        return max((after - before for before, after in itertools.pairwise(times)), default=0.0)

    def _after(self, moment: float) -> list[Heard]:
        return [one for one in self._heard if one.at > moment]

    def _report(self, reading: Reading) -> None:
        """Take a reading in the sampler's thread."""
        now = time.monotonic()
        sight = next((one for one in reading.gpus if one.uuid == self._uuid), None)
        with self._news:
            self._note(reading, sight)
            if sight is not None and sight.used_bytes is not None:
                self._heard.append(Heard(now, sight, sight.used_bytes))
            self._news.notify_all()

    def _note(self, reading: Reading, sight: Sight | None) -> None:
        told = [reading.trouble, "NVML does not list the GPU" if sight is None else sight.trouble]
        told += [f"Xid {xid.code}" for xid in reading.xids]
        self.troubles += [words for words in told if words and words not in self.troubles]

    def _hurry(self) -> None:
        while not self._stopped.wait(self._every_s):
            self.sampler.hurry()

"""The event loop's side of the GPUs: tells what the sampler's thread sees. Called by `supervising`.

It waits for NVML for a bounded time only, and says so when NVML is silent.
"""

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable

from rhapsode_contract.frames import Narration, Vram
from rhapsode_worker.gauging import Gauge
from rhapsode_worker.sampling import Sampler
from rhapsode_worker.sightings import Reading
from rhapsode_worker.voice import Voice

FIRST_S = 5.0
"""How long the start waits for NVML; opening a driver that nobody keeps open takes seconds."""
FRESH_S = 0.5
"""How long the ready line waits for a fresh sample."""
SILENT_S = 10.0
"""How long NVML may be silent before that is told."""
_LEAVE_S = 0.3


class DeviceWatch:
    """The GPUs of one worker, and the voice that tells of them."""

    def __init__(self, voice: Voice, make_sampler: Callable[[Callable[[Reading], None]], Sampler] = Sampler) -> None:
        self._voice = voice
        self._gauge = Gauge(len(os.sched_getaffinity(0)))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._heard_at = time.monotonic()
        self._wanted_at = -math.inf
        self.sampler = make_sampler(self._report)

    @property
    def vram(self) -> Vram:
        return self._gauge.vram

    def words(self) -> str:
        """Return what the ready line says of memory."""
        return self._gauge.words()

    async def begin(self) -> None:
        """Start sampling; return when the GPUs are known, or NVML has been silent for too long."""
        self._loop = asyncio.get_running_loop()
        self._heard_at = time.monotonic()
        self.sampler.start()
        if not await self._wait_for_news(FIRST_S):
            self._fall_silent()

    def begin_load(self) -> None:
        """A load begins: faults of before are told no more."""
        self._gauge.forget_faults()

    async def refresh(self, limit_s: float = FRESH_S) -> None:
        """Wait for a fresh sample, for a moment unless who asks has more time. One that is being read is none."""
        if self.sampler.alive:
            self._wanted_at = time.monotonic()
            self._news.clear()
            self.sampler.hurry()
            await self._wait_for_news(limit_s)

    def mind(self) -> None:
        """Tell when NVML has been silent for too long. To be called every now and then."""
        if self.sampler.alive and time.monotonic() - self._heard_at > SILENT_S:
            self._fall_silent()

    async def end(self) -> None:
        """Stop sampling. A call that hangs is left alone."""
        self.sampler.stop()
        until = time.monotonic() + _LEAVE_S
        while self.sampler.alive and time.monotonic() < until:
            await asyncio.sleep(0.01)

    async def _wait_for_news(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
        return self._news.is_set()

    def _report(self, reading: Reading) -> None:
        """Take a reading in the sampler's thread."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is over
            self._loop.call_soon_threadsafe(self._take, reading)

    def _take(self, reading: Reading) -> None:
        self._heard_at = time.monotonic()
        self._tell(self._gauge.take(reading, self._heard_at))
        if reading.began >= self._wanted_at:
            self._news.set()

    def _fall_silent(self) -> None:
        self._tell(self._gauge.fall_silent(self._heard_at, time.monotonic()))

    def _tell(self, told: list[Narration | Vram]) -> None:
        for one in told:
            if isinstance(one, Vram):
                self._voice.holds(one)
            else:
                self._voice.tell(one)

"""The driver and the GPUs: what NVML says before, while and after an engine runs. Called by `checking`.

NVML is asked by the worker's own sampler, in its thread: a call that hangs holds up nobody.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import pynvml

from rhapsode_contract.frames import Gpu
from rhapsode_contract.wording import UNITS
from rhapsode_worker.sampling import Sampler
from rhapsode_worker.selfcheck.findings import Finding, failure, not_checked
from rhapsode_worker.sightings import Reading
from rhapsode_worker.voice import Voice
from rhapsode_worker.watching_devices import DeviceWatch

TOLERANCE_BYTES = 128 * 2**20
"""What a GPU may hold more than before: the driver's own share breathes, a process that stays has more than this."""
RETURN_S = 10.0
"""How long a GPU may take to give back the memory of a process that ended."""
_SAMPLE_S = 10.0
"""How long a check waits for a sample: an older one would tell of another moment."""
_LOOK_S = 0.2
_NO_DRIVER = "no NVIDIA driver here"
_GET_GPUS = "A container gets GPUs by docker run --gpus all, a pod by nvidia.com/gpu."
_NOT_TOLD = "NVML does not tell the memory of these GPUs"


@dataclass
class _Seen:
    """What the sampler's thread saw last."""

    reading: Reading | None = None
    cuda: int | None = None


class Gpus:
    """The GPUs of this machine while an engine is checked."""

    def __init__(self, voice: Voice) -> None:
        self._seen = _Seen()
        self.watch = DeviceWatch(voice, self._make_sampler)
        self._before: dict[str, int] = {}

    async def begin(self) -> None:
        """Start to look; what is used now is what there was before the engine."""
        await self.watch.begin()
        self._before = _used(self.watch.vram.gpus)

    async def end(self) -> None:
        await self.watch.end()

    @property
    def any(self) -> bool:
        return bool(self.watch.vram.gpus)

    def driver(self, *, needed: bool) -> Finding:
        """Return which driver there is, and what it can."""
        reading = self._seen.reading
        if reading is None:
            return failure("NVML does not answer", "Look at the node's driver: does nvidia-smi answer?")
        if reading.absent:
            return not_checked(_NO_DRIVER, _GET_GPUS if needed else "")
        if not reading.driver:
            return failure(
                f"NVML cannot be used: {reading.trouble}", "Look at the driver: does nvidia-smi work here?"
            )
        cuda = self._seen.cuda
        words = f"driver {reading.driver}" + (f", which takes CUDA up to {_version(cuda)}" if cuda else "")
        return Finding(measured=words, facts={"driver": reading.driver, "cuda": _version(cuda) if cuda else None})

    def found(self) -> Finding:
        """Return which GPUs there are, and how full they are."""
        reading = self._seen.reading
        if reading is None or reading.absent:
            return not_checked(_NO_DRIVER if reading else "NVML does not answer")
        facts = {"gpus": [{"name": one.name, "total_bytes": one.total_bytes, "used_bytes": one.used_bytes}
                          for one in reading.gpus]}  # fmt: skip
        told = [f"{one.name}: {_memory_words(one.used_bytes, one.total_bytes)}" for one in reading.gpus]
        if ill := [one for one in reading.gpus if one.trouble]:
            return failure(f"{ill[0].name}: {ill[0].trouble}", ill[0].remedy, facts=facts)
        if reading.trouble or not told:
            remedy = f"Look for Xid lines in the node's dmesg. {_GET_GPUS}"
            return failure(reading.trouble or "no GPU is visible here", remedy, facts=facts)
        return Finding(measured="; ".join(told), facts=facts)

    async def taken(self) -> Finding:
        """Return how much memory the engine has taken."""
        if why := self._unknown():
            return not_checked(why)
        await self.watch.refresh(_SAMPLE_S)
        taken = sum(_more(self._before, self.watch.vram.gpus).values())
        facts = {"taken_bytes": taken}
        if taken > 0:
            return Finding(measured=f"{UNITS['gib'](taken)} taken since the check began", facts=facts)
        return Finding(
            outcome="warning",
            measured="NVML sees no memory that the engine took",
            remedy="Look whether it runs on another GPU than those above.",
            facts=facts,
        )

    async def returned(self) -> Finding:
        """Wait until the engine's memory is back; return how much is not."""
        if why := self._unknown():
            return not_checked(why)
        began = time.monotonic()
        await self.watch.refresh(_SAMPLE_S)
        while (left := max(_more(self._before, self.watch.vram.gpus).values())) > TOLERANCE_BYTES:
            if time.monotonic() - began > RETURN_S:
                remedy = "Look with nvidia-smi which process holds it; another one may have come meanwhile."
                return failure(
                    f"{UNITS['gib'](left)} more in use than before, {RETURN_S:g} s after the engine ended",
                    remedy, facts={"left_bytes": left, "tolerance_bytes": TOLERANCE_BYTES},
                )  # fmt: skip
            await asyncio.sleep(_LOOK_S)
            await self.watch.refresh()
        words = f"all but {UNITS['size'](left)} is back" if left > 0 else "all of it is back"
        return Finding(measured=words, facts={"left_bytes": left, "tolerance_bytes": TOLERANCE_BYTES})

    def _unknown(self) -> str:
        """Return why memory cannot be compared, if it cannot."""
        if self._before.keys() <= _used(self.watch.vram.gpus).keys() and self._before:
            return ""
        if self._before:
            return "a GPU that was there cannot be asked any more"
        return _NOT_TOLD if self.watch.vram.source == "unsupported" else _NO_DRIVER

    def _make_sampler(self, report: Callable[[Reading], None]) -> Sampler:
        def see(reading: Reading) -> None:
            if self._seen.cuda is None and reading.driver:
                self._seen.cuda = _ask_cuda()
            self._seen.reading = reading
            report(reading)

        return Sampler(see)


def _used(gpus: list[Gpu]) -> dict[str, int]:
    return {gpu.uuid: gpu.used_bytes for gpu in gpus if gpu.healthy}


def _more(before: dict[str, int], gpus: list[Gpu]) -> dict[str, int]:
    now = _used(gpus)
    return {uuid: now.get(uuid, used) - used for uuid, used in before.items()}


def _ask_cuda() -> int | None:
    """Return the newest version of CUDA that the driver takes; NVML is open in this thread."""
    try:
        return int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
    except pynvml.NVMLError:
        return None


def _version(cuda: int) -> str:
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def _memory_words(used: int | None, total: int | None) -> str:
    if used is None or total is None:
        return "its memory is not told"
    return f"{UNITS['gib'](used)} of {UNITS['gib'](total)} in use"

"""What is told of the GPUs, and when. Called by `watching_devices` with each reading of NVML. Pure.

Every edge is told at once. How the memory stands is told when it moved, when a GPU's health changed, and every
few seconds: often enough for a person, seldom enough for a relay.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rhapsode_contract.catalogue import narrate
from rhapsode_contract.frames import Gpu, Narration, Vram
from rhapsode_worker.judging import GpuJudge, beyond_reach
from rhapsode_worker.sightings import Reading, Sight

MOVED = 0.005
"""Share of a GPU's memory whose coming or going is told at once."""
EVERY_S = 5.0
_GONE = ("NVML no longer lists it", "Look for Xid lines in the node's dmesg.")
_SILENT = "NVML does not answer"


class Gauge:
    """The GPUs of one worker. `cores` is told where there is none."""

    def __init__(self, cores: int) -> None:
        self.vram = Vram(source="none")
        self._cores = cores
        self._judges: dict[str, GpuJudge] = {}
        self._trouble = ""
        self._silent_since: float | None = None
        self._told: Vram | None = None
        self._told_at = 0.0

    def take(self, reading: Reading, now: float) -> list[Narration | Vram]:
        """Take a reading; return what is told, in order."""
        edges = [*self._hear_again(now), *self._meet(reading)]
        for sight in self._sights(reading):
            edges += self._judges[sight.uuid].look(sight, now)
        for uuid, code in ((uuid, xid.code) for xid in reading.xids for uuid in xid.uuids):
            if judge := self._judges.get(uuid):
                edges += judge.fault(code, now)
        self.vram = self._weigh([judge.frame for judge in self._judges.values()])
        return [*edges, *self._due(bool(edges), now)]

    def fall_silent(self, since: float, now: float) -> list[Narration | Vram]:
        """NVML has not answered since then; return what is told, once."""
        if self._silent_since is not None:
            return []
        self._silent_since = since
        self.vram = self._weigh([beyond_reach(gpu, _SILENT) for gpu in self.vram.gpus])
        return [narrate("device_silent", {"seconds": round(now - since, 1)}), *self._due(True, now)]

    def forget_faults(self) -> None:
        """A load begins: what went wrong before is history. The next reading tells."""
        for judge in self._judges.values():
            judge.forget_fault()

    def words(self) -> str:
        """Return what the ready line says of memory."""
        gpus = [gpu for gpu in self.vram.gpus if gpu.healthy]
        if gpus:
            used, total = sum(gpu.used_bytes for gpu in gpus), sum(gpu.total_bytes for gpu in gpus)
            return f"{used / 2**30:.1f} of {total / 2**30:.0f} GiB VRAM in use"
        if self.vram.source == "unsupported":
            return "VRAM unknown (not supported)"
        return (
            "VRAM unknown (NVML error)" if self._trouble or self._silent or self._judges else "VRAM unknown (no NVML)"
        )

    @property
    def _silent(self) -> bool:
        return self._silent_since is not None

    def _hear_again(self, now: float) -> list[Narration]:
        if self._silent_since is None:
            return []
        seconds, self._silent_since = round(now - self._silent_since, 1), None
        return [narrate("device_answers", {"seconds": seconds})]

    def _meet(self, reading: Reading) -> list[Narration]:
        """Greet the GPUs that are new, or say once why there is none."""
        new = [sight for sight in reading.gpus if sight.uuid not in self._judges]
        self._judges |= {sight.uuid: GpuJudge(sight) for sight in new}
        if reading.absent:
            return [narrate("device_none", {"cores": self._cores})]
        explained = len(self._judges) > len(reading.gpus)  # by the loss of a GPU that was known
        said = self._trouble
        self._trouble = reading.trouble
        if reading.trouble and reading.trouble != said and not explained:
            return [*_found(new, reading.driver), narrate("device_error", {"why": reading.trouble})]
        return _found(new, reading.driver)

    def _sights(self, reading: Reading) -> Iterator[Sight]:
        yield from reading.gpus
        seen = {sight.uuid for sight in reading.gpus}
        why, remedy = _GONE
        for uuid in self._judges.keys() - seen:
            last = self._judges[uuid].sight
            yield replace(last, trouble=last.trouble or reading.trouble or why, remedy=last.remedy or remedy)

    def _weigh(self, frames: Sequence[Gpu | None]) -> Vram:
        gpus = [gpu for gpu in frames if gpu is not None]
        if gpus:
            return Vram(source="nvml", gpus=gpus)
        return Vram(source="unsupported" if self._judges else "none")

    def _due(self, edges: bool, now: float) -> list[Vram]:
        late = bool(self.vram.gpus) and now - self._told_at >= EVERY_S
        if not (edges or late or self._told is None or _moved(self._told, self.vram)):
            return []
        self._told, self._told_at = self.vram, now
        return [self.vram]


def _found(new: list[Sight], driver: str) -> list[Narration]:
    """Greet GPUs, equal ones in one sentence."""
    kinds = Counter((sight.name, sight.total_bytes) for sight in new)
    return [
        narrate("device_found", {"count": count, "name": name, "total_bytes": total, "driver": driver or None})
        for (name, total), count in kinds.items()
    ]


def _moved(told: Vram, now: Vram) -> bool:
    """Return whether what is told has become untrue."""
    if told.source != now.source or len(told.gpus) != len(now.gpus):
        return True
    return any(_differs(old, new) for old, new in zip(told.gpus, now.gpus, strict=True))


def _differs(old: Gpu, new: Gpu) -> bool:
    if (old.uuid, old.healthy, old.trouble, old.xid) != (new.uuid, new.healthy, new.trouble, new.xid):
        return True
    return abs(new.used_bytes - old.used_bytes) > MOVED * new.total_bytes

"""Which edges one GPU crosses: lost and back, slowed down, nearly full, faults. Called by `gauging`. Pure.

An edge is told once. What flaps is held back: slowness must last, and a full GPU must have become clearly emptier.
"""

import msgspec

from rhapsode_contract.catalogue import narrate
from rhapsode_contract.frames import Gpu, Narration
from rhapsode_contract.names import VRAM_NEARLY_FULL, VRAM_RELIEVED
from rhapsode_worker.sightings import Sight
from rhapsode_worker.xid_codes import UNKNOWN_REMEDY, XID_CODES

HOLD_S = 5.0
"""How long a GPU is slow, or fast again, before that is told."""
SAME_XID_S = 60.0
"""How long the same Xid of the same GPU is not told again."""

_COOLING = "Check its cooling"
_SLOWING = {
    "hw_thermal": ("too hot", _COOLING),
    "sw_thermal": ("too hot", _COOLING),
    "power_brake": ("the server's power brake", "Check the server's power supply"),
    "hw_slowdown": ("its hardware protects itself", "Check its cooling and power"),
}
"""What is told. The software power cap is not: a busy GPU is often at it."""


class GpuJudge:
    """One GPU since it was first seen. `frame` is what is told of it; None if its memory is unknown."""

    def __init__(self, sight: Sight) -> None:
        self.sight = sight
        self.frame: Gpu | None = None
        self._xid: int | None = None
        self._xid_told: dict[int, float] = {}
        self._lost_at: float | None = None
        self._slow = False
        self._slow_at = 0.0
        self._turned_at: float | None = None
        self._full = False

    @property
    def reachable(self) -> bool:
        return self._lost_at is None

    def look(self, sight: Sight, now: float) -> list[Narration]:
        """Take what was seen; return what is told."""
        edges = self._judge_reach(sight, now)
        self.sight = sight
        if sight.trouble:
            self.frame = self.frame and beyond_reach(self.frame, sight.trouble)
            return edges
        self.frame = _frame(sight, self._xid)
        return [*edges, *self._judge_speed(sight, now), *self._judge_room()]

    def fault(self, code: int, now: float) -> list[Narration]:
        """Take an Xid; return what is told. The same one is told once a minute."""
        self._xid = code
        if self.frame is not None:
            self.frame = msgspec.structs.replace(self.frame, xid=code)
        if now - self._xid_told.get(code, -SAME_XID_S) < SAME_XID_S:
            return []
        self._xid_told[code] = now
        known = XID_CODES.get(code)
        action = "gpu_program_fault" if known and known.by_program else "gpu_fault"
        meaning, remedy = (known.meaning, known.remedy) if known else (None, UNKNOWN_REMEDY)
        return [narrate(action, self._ids() | {"code": code, "meaning": meaning, "remedy": remedy})]

    def forget_fault(self) -> None:
        """Tell of the last Xid no more: it explains nothing that happens now. Of a GPU out of reach it still does."""
        if self.reachable:
            self._xid = None

    def _judge_reach(self, sight: Sight, now: float) -> list[Narration]:
        if sight.trouble and self._lost_at is None:
            self._lost_at = now
            return [narrate("gpu_lost", self._ids() | {"why": sight.trouble, "remedy": sight.remedy})]
        if not sight.trouble and self._lost_at is not None:
            seconds, self._lost_at = round(now - self._lost_at, 1), None
            self.forget_fault()
            return [narrate("gpu_back", self._ids() | {"seconds": seconds})]
        return []

    def _judge_speed(self, sight: Sight, now: float) -> list[Narration]:
        reasons = [reason for reason in sight.throttle if reason in _SLOWING]
        if bool(reasons) == self._slow:
            self._turned_at = None
            return []
        self._turned_at = now if self._turned_at is None else self._turned_at
        if now - self._turned_at < HOLD_S:
            return []
        self._slow, began, self._slow_at, self._turned_at = bool(reasons), self._slow_at, self._turned_at, None
        if not reasons:
            return [narrate("gpu_unthrottled", self._ids() | {"seconds": round(self._slow_at - began, 1)})]
        why, remedy = _SLOWING[reasons[0]]
        heat = {"temperature_c": sight.temperature_c, "power_w": sight.power_w}
        return [narrate("gpu_throttled", self._ids() | {"why": why, "remedy": remedy} | heat)]

    def _judge_room(self) -> list[Narration]:
        if self.frame is None or not self.frame.total_bytes:
            return []
        used = self.frame.used_bytes + (self.frame.reserved_bytes or 0)
        fraction = used / self.frame.total_bytes
        if fraction < VRAM_RELIEVED if self._full else fraction >= VRAM_NEARLY_FULL:
            self._full = not self._full
            room = {"fraction": fraction, "used_bytes": used, "total_bytes": self.frame.total_bytes}
            return [narrate("vram_pressure" if self._full else "vram_relief", self._ids() | room)]
        return []

    def _ids(self) -> dict[str, object]:
        """Return the fields that say which GPU; `gpu` is short enough for a sentence."""
        kind, _, rest = self.sight.uuid.partition("-")
        return {"uuid": self.sight.uuid, "gpu": f"{kind}-{rest[:8]}", "name": self.sight.name}


def beyond_reach(frame: Gpu, trouble: str) -> Gpu:
    """Return what is still true of a GPU that cannot be asked: its sizes as they were last measured."""
    return Gpu(
        uuid=frame.uuid,
        name=frame.name,
        total_bytes=frame.total_bytes,
        used_bytes=frame.used_bytes,
        reserved_bytes=frame.reserved_bytes,
        healthy=False,
        trouble=trouble,
        xid=frame.xid,
        mig=frame.mig,
    )


def _frame(sight: Sight, xid: int | None) -> Gpu | None:
    if sight.total_bytes is None or sight.used_bytes is None:
        return None
    return Gpu(
        uuid=sight.uuid,
        name=sight.name,
        total_bytes=sight.total_bytes,
        used_bytes=sight.used_bytes,
        reserved_bytes=sight.reserved_bytes,
        utilization=sight.utilization,
        temperature_c=sight.temperature_c,
        power_w=sight.power_w,
        power_limit_w=sight.power_limit_w,
        throttle=list(sight.throttle),
        xid=xid,
        mig=sight.mig,
    )

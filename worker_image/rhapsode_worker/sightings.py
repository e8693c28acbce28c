"""What NVML told just now, before anyone judges it. Made by `devices`, read by `gauging`. Pure data."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sight:
    """One GPU or MIG instance. None is what NVML does not tell; `trouble` is why it tells nothing at all."""

    uuid: str
    name: str
    mig: bool = False
    total_bytes: int | None = None
    used_bytes: int | None = None
    reserved_bytes: int | None = None
    utilization: float | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    throttle: tuple[str, ...] = ()
    trouble: str = ""
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Xid:
    """An error that the driver reported of a GPU. `uuids` are those of its MIG instances that it concerns, if any."""

    code: int
    uuid: str
    uuids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """All of it. `absent`: there is no driver. `trouble`: why some or all of it could not be read.

    `began` is the moment of the steady clock from which on it was read: what changed later may not be in it.
    """

    gpus: tuple[Sight, ...] = ()
    xids: tuple[Xid, ...] = ()
    driver: str = ""
    trouble: str = ""
    absent: bool = False
    began: float = math.inf

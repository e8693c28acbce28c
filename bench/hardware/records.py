"""What is found and measured, as it stands in a report's JSON. No UUID, serial number, path or host name is in it."""

import msgspec

MIB, GIB = 2**20, 2**30
TOLERANCE = 32 * MIB
"""How far what NVML tells may be from what was taken: page tables and the driver's own bookkeeping."""


ENDS, KILLED, STOPPED = "it ends by itself", "it is killed (kill -9) with all held", "stopped"
"""How rounds end, and the step that stands for one that could not be gone through."""


class Gpu(msgspec.Struct, frozen=True):
    """One GPU or MIG instance that NVML lists."""

    name: str
    mig: bool
    total_bytes: int | None


class Facts(msgspec.Struct, frozen=True):
    """What stands before anything is measured. `supports` has the driver's answer for each field."""

    driver: str
    nvml: str
    drivers_own: bool
    mig_mode: str
    gpus: list[Gpu]
    supports: dict[str, str]
    sample_median_us: float
    sample_p99_us: float
    samples: int


class Found(msgspec.Struct, frozen=True):
    """What `finding` tells its parent. The UUID is for CUDA alone; nothing else may get it."""

    facts: Facts | None = None
    uuid: str = ""
    refusal: str = ""


class Step(msgspec.Struct, frozen=True):
    """One change of the memory held. `off_bytes` is how far NVML's word then is from what is known, if it is.

    `took_ms` is the driver's time. `told_ms` is from CUDA's return, or from the wish that the process ends, to a
    reading of the sampler that shows it: None if none did within the limit.
    """

    name: str
    held_bytes: int
    used_before: int
    used_after: int
    took_ms: float | None = None
    told_ms: float | None = None
    off_bytes: int | None = None
    trouble: str = ""


class Round(msgspec.Struct, frozen=True):
    """Growing, holding, and how it ends. `context_bytes` is what NVML shows beside what was taken."""

    name: str
    steps: list[Step]
    context_bytes: int | None


class Held(msgspec.Struct, frozen=True):
    """What the sampler told while the memory was held."""

    seconds: float
    samples: int
    most_off_bytes: int
    fields: dict[str, str]


class Check(msgspec.Struct, frozen=True):
    """One thing that has to hold."""

    what: str
    passed: bool
    why: str


class Report(msgspec.Struct, frozen=True):
    """All of it."""

    date: str
    version: str
    commit: str
    gpu: str
    facts: Facts
    cuda: str
    step_bytes: int
    step_count: int
    tolerance_bytes: int
    limit_s: float
    sampled_every: str
    base_bytes: int
    longest_gap_s: float
    rounds: list[Round]
    held: Held | None
    conf_compute: str
    troubles: list[str]
    checks: list[Check]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

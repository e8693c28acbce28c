"""Find what NVML tells of this machine, and what one sample costs: `python -m bench.hardware.finding GPU`.

A process of its own, which may hang or crash in the driver. Started by `__main__`; prints a `Found`.
"""

import functools
import stat
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pynvml

from bench.hardware.children import die_with_parent
from bench.hardware.records import MIB, Facts, Found, Gpu
from rhapsode_worker.devices import NoDriver, Nvml, NvmlError
from rhapsode_worker.sightings import Sight

_SAMPLES, _SAMPLES_S = 200, 10.0
_DRIVERS_DEVICES = ("/dev/nvidiactl", "/dev/dxg")
NO_DRIVER = "no NVIDIA driver here ({}). Run this where nvidia-smi lists a GPU."
NO_ANSWER = "NVML cannot be used here ({}). See that nvidia-smi works, then run this again."
NO_GPU = "NVML lists no GPU here ({}). Give this container or machine a GPU, and see that nvidia-smi lists it."
NO_SUCH_GPU = "there is no GPU {}: NVML lists {}, from 0 on. Choose one with --gpu."
NO_MEMORY = "NVML does not tell the memory of GPU {} ({}): there is nothing to measure against. Try another --gpu."


def find(number: int) -> Found:
    """Return what there is, or why nothing can be measured."""
    try:
        nvml = Nvml()
    except NoDriver as exc:
        return Found(refusal=NO_DRIVER.format(exc))
    except NvmlError as exc:
        return Found(refusal=NO_ANSWER.format(exc))
    reading = nvml.read()
    if not reading.gpus:
        return Found(refusal=NO_GPU.format(reading.trouble or "no error"))
    if number >= len(reading.gpus):
        return Found(refusal=NO_SUCH_GPU.format(number, len(reading.gpus)))
    sight = reading.gpus[number]
    if sight.used_bytes is None or sight.total_bytes is None:
        return Found(refusal=NO_MEMORY.format(number, sight.trouble or "Not Supported"))
    return Found(facts=_facts(nvml, reading.driver, sight, reading.gpus), uuid=sight.uuid)


def _facts(nvml: Nvml, driver: str, sight: Sight, all_of_them: tuple[Sight, ...]) -> Facts:
    handle = pynvml.nvmlDeviceGetHandleByUUID(sight.uuid)
    times = sorted(_costs(nvml))
    return Facts(
        driver=driver,
        nvml=_answer(pynvml.nvmlSystemGetNVMLVersion),
        drivers_own=drivers_own(),
        mig_mode="on: this is an instance" if sight.mig else _answer(functools.partial(_mig_mode, handle)),
        gpus=[Gpu(one.name, one.mig, one.total_bytes) for one in all_of_them],
        supports={name: _answer(functools.partial(ask, handle)) for name, ask in _ASKED.items()},
        sample_median_us=round(statistics.median(times), 1),
        sample_p99_us=round(times[int(0.99 * (len(times) - 1))], 1),
        samples=len(times),
    )


def drivers_own() -> bool:
    """Return whether NVML in this process talks to the kernel's driver: its device is open. A mock opens none."""
    for link in Path("/proc/self/fd").iterdir():
        try:
            if str(link.readlink()) in _DRIVERS_DEVICES and stat.S_ISCHR(link.stat().st_mode):
                return True
        except OSError:
            continue  # the descriptor of this very listing
    return False


def _costs(nvml: Nvml) -> list[float]:
    """Return what samples of all GPUs cost, in µs."""
    costs: list[float] = []
    until = time.monotonic() + _SAMPLES_S
    while len(costs) < _SAMPLES and (not costs or time.monotonic() < until):
        began = time.perf_counter()
        nvml.read()
        costs.append((time.perf_counter() - began) * 1e6)
    return costs


def _answer(ask: Callable[[], Any]) -> str:
    try:
        return str(ask())
    except pynvml.NVMLError as exc:
        return f"no: {exc}"


def _mig_mode(handle: Any) -> str:
    return "on" if pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE else "off"


def _memory_v2(handle: Any) -> str:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    return f"yes, {memory.reserved / MIB:.0f} MiB reserved"


def _xids(handle: Any) -> str:
    """Register for Xids as the sampler does."""
    if not pynvml.nvmlDeviceGetSupportedEventTypes(handle) & pynvml.nvmlEventTypeXidCriticalError:
        return "no: not among the event types"
    events = pynvml.nvmlEventSetCreate()
    try:
        pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
    finally:
        pynvml.nvmlEventSetFree(events)
    return "yes, registered"


_ASKED: dict[str, Callable[[Any], str]] = {
    "memory, version 2 (reserved apart)": _memory_v2,
    "memory, version 1": lambda handle: "yes" if pynvml.nvmlDeviceGetMemoryInfo(handle) else "",
    "utilisation": lambda handle: f"yes, {pynvml.nvmlDeviceGetUtilizationRates(handle).gpu} %",
    "temperature": lambda handle: f"yes, {pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)} °C",
    "power": lambda handle: f"yes, {pynvml.nvmlDeviceGetPowerUsage(handle) / 1000:.1f} W",
    "power limit": lambda handle: f"yes, {pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000:.1f} W",
    "clock event reasons": lambda handle: f"yes, {pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle):#x}",
    "clock throttle reasons (their older name)": lambda handle: (
        f"yes, {pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle):#x}"
    ),
    "Xid events": _xids,
}


if __name__ == "__main__":
    die_with_parent()
    sys.stdout.write(msgspec.json.encode(find(int(sys.argv[1]))).decode())

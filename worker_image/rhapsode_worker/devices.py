"""Which GPUs there are, from NVML. Called once at start. A number is NVML's or absent."""

from typing import NamedTuple

import pynvml

from rhapsode_contract.frames import Gpu, Vram


class Devices(NamedTuple):
    """What NVML says: the GPUs, the driver's version, or why there is nothing to say."""

    vram: Vram
    driver: str = ""
    trouble: str = ""


def probe_devices() -> Devices:
    """Ask NVML. No driver is `source: none`; a driver that cannot tell memory is `source: unsupported`."""
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return Devices(Vram(source="none"))
    except pynvml.NVMLError as exc:
        return Devices(Vram(source="none"), trouble=str(exc))
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        count = pynvml.nvmlDeviceGetCount()
        gpus = [_read_gpu(pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)]
        return Devices(Vram(source="nvml" if gpus else "none", gpus=gpus), driver)
    except pynvml.NVMLError_NotSupported as exc:
        return Devices(Vram(source="unsupported"), trouble=str(exc))
    except pynvml.NVMLError as exc:
        return Devices(Vram(source="none"), trouble=str(exc))
    finally:
        pynvml.nvmlShutdown()


def _read_gpu(handle: object) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        name=str(pynvml.nvmlDeviceGetName(handle)),
        total_bytes=int(memory.total),
        used_bytes=int(memory.used),
    )


def vram_words(vram: Vram) -> str:
    """Return what the ready line says of memory."""
    if not vram.gpus:
        return "VRAM unknown (no NVML)" if vram.source == "none" else "VRAM unknown (not supported)"
    used = sum(gpu.used_bytes for gpu in vram.gpus) / 2**30
    total = sum(gpu.total_bytes for gpu in vram.gpus) / 2**30
    return f"{used:.1f} of {total:.0f} GiB VRAM in use"

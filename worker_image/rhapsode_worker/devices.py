"""Ask NVML about the GPUs. Called by `sampling`, in its thread: any call may take long or never return.

A field that the driver does not support is absent. Where MIG is on, its instances are the devices, each with its
own memory. An error of one GPU is that GPU's trouble; the others are read on.
"""

import contextlib
import ctypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pynvml

from rhapsode_worker.sightings import Reading, Sight, Xid

_DMESG = "Look for Xid lines in the node's dmesg."
_REMEDIES = {
    pynvml.NVML_ERROR_GPU_IS_LOST: "Drain the node and reboot it.",
    pynvml.NVML_ERROR_RESET_REQUIRED: "Reset it with nvidia-smi --gpu-reset when nothing uses it.",
}
_NOT_THERE = (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound)
_NO_MEMORY_V2 = (*_NOT_THERE, pynvml.NVMLError_ArgumentVersionMismatch)
_NO_INSTANCE = (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument, pynvml.NVMLError_NoPermission)
_THROTTLE = {
    pynvml.nvmlClocksEventReasonSwPowerCap: "power_cap",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "hw_thermal",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "sw_thermal",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power_brake",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hw_slowdown",
}
_WHOLE_GPU = 0xFFFFFFFF
_MOST_EVENTS = 64


class NoDriver(Exception):
    """This machine has no NVIDIA driver."""


class NvmlError(Exception):
    """NVML cannot be used now."""


@dataclass
class _Device:
    """A handle that NVML gave, with what never changes. `lacks` are the fields that it does not support."""

    handle: Any
    uuid: str
    name: str
    parent: str = ""
    instance: int = _WHOLE_GPU
    lacks: set[str] = field(default_factory=set)


class Nvml:
    """One use of NVML, from `nvmlInit` to `close`. Raises NoDriver or NvmlError."""

    def __init__(self) -> None:
        try:
            pynvml.nvmlInit()
        except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as exc:
            raise NoDriver(_words(exc)) from exc
        except pynvml.NVMLError as exc:
            raise NvmlError(_words(exc)) from exc
        self._troubles: list[str] = []
        self._physical: dict[int | None, str] = {}
        self._handles: list[Any] = []
        self._events: Any = None
        self._deaf = False
        try:
            self._driver = str(pynvml.nvmlSystemGetDriverVersion())
            self._devices = [device for index in range(pynvml.nvmlDeviceGetCount()) for device in self._find(index)]
        except pynvml.NVMLError as exc:
            self.close()
            raise NvmlError(_words(exc)) from exc
        if not self._devices and not self._troubles:
            self._troubles.append("no GPU is visible here")

    def read(self) -> Reading:
        """Return how all devices are now."""
        if self._events is None and not self._deaf:
            self._listen()
        sights = tuple(map(_read, self._devices))
        return Reading(gpus=sights, driver=self._driver, trouble="; ".join(self._troubles))

    def wait_xids(self, seconds: float) -> tuple[Xid, ...]:
        """Wait that long, or until the driver reports errors; return them."""
        if self._events is None:
            time.sleep(seconds)
            return ()
        found: list[Xid] = []
        try:
            while len(found) < _MOST_EVENTS:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0 if found else int(seconds * 1000))
                found += self._xids(event)
        except pynvml.NVMLError_Timeout:
            pass
        except pynvml.NVMLError:
            self._stop_listening()
        return tuple(found)

    def close(self) -> None:
        """Give NVML back."""
        self._stop_listening()
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()

    def _find(self, index: int) -> Iterator[_Device]:
        """Find a GPU, or its MIG instances."""
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid, name = str(pynvml.nvmlDeviceGetUUID(handle)), str(pynvml.nvmlDeviceGetName(handle))
            self._physical[_address(handle)] = uuid
            self._handles.append(handle)
            yield from _instances(handle, uuid) if _mig_is_on(handle) else [_Device(handle, uuid, name, uuid)]
        except pynvml.NVMLError as exc:
            self._troubles.append(f"GPU {index}: {_words(exc)}")

    def _listen(self) -> None:
        """Ask to be told of Xids, of every GPU that can."""
        with contextlib.suppress(pynvml.NVMLError):
            self._events = pynvml.nvmlEventSetCreate()
        heard = [self._events is not None and _register(handle, self._events) for handle in self._handles]
        if not any(heard):
            self._deaf = True
            self._stop_listening()

    def _stop_listening(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlEventSetFree(events)

    def _xids(self, event: Any) -> Iterator[Xid]:
        parent = self._physical.get(_address(event.device))
        if event.eventType != pynvml.nvmlEventTypeXidCriticalError or parent is None:
            return
        instance = int(event.gpuInstanceId)
        concerned = tuple(
            device.uuid
            for device in self._devices
            if device.parent == parent and (instance == _WHOLE_GPU or device.instance in (instance, _WHOLE_GPU))
        )
        yield Xid(code=int(event.eventData), uuid=parent, uuids=concerned)


def _mig_is_on(handle: Any) -> bool:
    try:
        return bool(pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE)
    except _NOT_THERE:
        return False


def _instances(gpu: Any, parent: str) -> Iterator[_Device]:
    """Find the MIG instances that this container may use."""
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except _NO_INSTANCE:
            continue
        uuid, name = str(pynvml.nvmlDeviceGetUUID(handle)), str(pynvml.nvmlDeviceGetName(handle))
        yield _Device(handle, uuid, name, parent, _instance_id(handle))


def _instance_id(handle: Any) -> int:
    try:
        return int(pynvml.nvmlDeviceGetGpuInstanceId(handle))
    except pynvml.NVMLError:
        return _WHOLE_GPU


def _register(handle: Any, events: Any) -> bool:
    try:
        if not pynvml.nvmlDeviceGetSupportedEventTypes(handle) & pynvml.nvmlEventTypeXidCriticalError:
            return False
        pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
    except pynvml.NVMLError:
        return False
    return True


def _read(device: _Device) -> Sight:
    who: dict[str, Any] = {"uuid": device.uuid, "name": device.name, "mig": device.uuid != device.parent}
    try:
        facts = _memory(device)
        for name, ask in _FIELDS.items():
            if name not in device.lacks and (value := _ask(device, name, ask)) is not None:
                facts[name] = value
    except pynvml.NVMLError as exc:
        return Sight(**who, trouble=_words(exc), remedy=_REMEDIES.get(exc.value, _DMESG))
    return Sight(**who, **facts)


def _memory(device: _Device) -> dict[str, Any]:
    """Return what is known of memory: version 2 of the question, else version 1, else nothing."""
    if "v2" not in device.lacks:
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(device.handle, version=pynvml.nvmlMemory_v2)
            reserved = int(memory.reserved)
            return {"total_bytes": int(memory.total), "used_bytes": int(memory.used), "reserved_bytes": reserved}
        except _NO_MEMORY_V2:
            device.lacks.add("v2")
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(device.handle)
    except _NOT_THERE:
        return {}
    return {"total_bytes": int(memory.total), "used_bytes": int(memory.used)}


def _ask(device: _Device, name: str, ask: Callable[[Any], Any]) -> Any:
    """Return a field, or None. Only the loss of the GPU is more than the absence of a field."""
    try:
        return ask(device.handle)
    except _NOT_THERE:
        device.lacks.add(name)
    except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_ResetRequired):
        raise
    except pynvml.NVMLError:
        pass
    return None


def _throttle(handle: Any) -> tuple[str, ...]:
    try:
        reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except pynvml.NVMLError_FunctionNotFound:  # its name before driver 535
        reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return tuple(word for bit, word in _THROTTLE.items() if reasons & bit)


_FIELDS: dict[str, Callable[[Any], Any]] = {
    "utilization": lambda handle: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
    "temperature_c": lambda handle: int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
    "power_w": lambda handle: round(pynvml.nvmlDeviceGetPowerUsage(handle) / 1000, 1),
    "power_limit_w": lambda handle: round(pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000, 1),
    "throttle": _throttle,
}


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


def _words(error: pynvml.NVMLError) -> str:
    return str(error).rstrip(". ")

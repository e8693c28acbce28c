"""The few calls of CUDA's driver library that take memory and give it back. Used by `holding`.

Nothing but the driver need be installed. The primary context is taken: its calls are the same since CUDA 7.
"""

import ctypes
import uuid
from collections.abc import Callable
from typing import Any

LIBRARY = "libcuda.so.1"
_NO_FUNCTION = "CUDA_ERROR_NOT_FOUND"


class CudaError(Exception):
    """A call that failed, by CUDA's own name for why."""

    def __init__(self, call: str, name: str, words: str) -> None:
        super().__init__(f"{call}: {name} ({words})")
        self.name = name


class Cuda:
    """One GPU, chosen by its UUID. `calling` is told of each call before it is made: one may never return."""

    def __init__(self, wanted: str, calling: Callable[[str], None]) -> None:
        self._calling = calling
        try:
            self._library: Any = ctypes.CDLL(LIBRARY)
        except OSError as exc:
            raise CudaError(LIBRARY, "not loaded", f"{exc}; install the NVIDIA driver's CUDA library") from exc
        self._call("cuInit", ctypes.c_uint(0))
        self._device = self._find(wanted)
        self._context = ctypes.c_void_p()

    def version(self) -> str:
        """Return the newest CUDA that the driver knows."""
        number = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def open(self) -> None:
        """Take the GPU's primary context."""
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self._call("cuCtxSetCurrent", self._context)

    def close(self) -> None:
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def take(self, size: int) -> int:
        """Take memory and write to all of it; return its address."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        self._call("cuMemsetD8_v2", address, ctypes.c_ubyte(0xA5), ctypes.c_size_t(size))
        self._call("cuCtxSynchronize")
        return address.value

    def give(self, address: int) -> None:
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def free(self) -> int:
        """Return how many bytes CUDA calls free."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def _find(self, wanted: str) -> ctypes.c_int:
        """Find the GPU: CUDA's order is not NVML's, and CUDA_VISIBLE_DEVICES may hide some."""
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        for index in range(count.value):
            device = ctypes.c_int()
            self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
            if wanted.endswith(self._uuid(device)):
                return device
        raise CudaError("cuDeviceGetUuid_v2", "no such GPU", "CUDA does not show it; look at CUDA_VISIBLE_DEVICES")

    def _uuid(self, device: ctypes.c_int) -> str:
        """Return a GPU's or MIG instance's UUID; its second version is of CUDA 11.4."""
        raw = (ctypes.c_ubyte * 16)()
        try:
            self._call("cuDeviceGetUuid_v2", raw, device)
        except CudaError as exc:
            if exc.name != _NO_FUNCTION:
                raise
            self._call("cuDeviceGetUuid", raw, device)
        return str(uuid.UUID(bytes=bytes(raw)))

    def _call(self, name: str, *arguments: Any) -> None:
        self._calling(name)
        function = getattr(self._library, name, None)
        if function is None:
            raise CudaError(name, _NO_FUNCTION, "this driver's library has no such function")
        if code := function(*arguments):
            raise CudaError(name, self._told("cuGetErrorName", code), self._told("cuGetErrorString", code))

    def _told(self, function: str, code: int) -> str:
        text = ctypes.c_char_p()
        failed = getattr(self._library, function)(ctypes.c_int(code), ctypes.byref(text))
        return f"error {code}" if failed or not text.value else text.value.decode(errors="replace")

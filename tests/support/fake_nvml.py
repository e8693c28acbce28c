"""A fake libnvidia-ml.so.1 whose GPUs a test moves while real code samples them through nvidia-ml-py."""

import atexit
import contextlib
import ctypes
import functools
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

SOURCE = Path(__file__).parent / "nvml" / "nvml.c"
GIB = 2**30
TOTAL = 80 * GIB
WHOLE_GPU = 0xFFFFFFFF
UTIL, TEMP, POWER, LIMIT, THROTTLE, EVENTS = (1 << bit for bit in range(6))
"""What a GPU can lack."""


class FakeGpu(ctypes.Structure):
    """One record of the state, as `struct gpu` of nvml.c."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("total", "used", "reserved", "throttle")),
        *((name, ctypes.c_uint32) for name in ("util", "temp", "power_mw", "limit_mw")),
        *((name, ctypes.c_uint32) for name in ("error", "memory_v2_error", "memory_v1_error")),
        *((name, ctypes.c_uint32) for name in ("lacks", "hidden", "parent", "mig")),
        *((name, ctypes.c_uint32) for name in ("xid", "xid_instance", "restless")),
    ]  # fmt: skip


class _State(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("init_error", "hang", "count", "opened")),
        ("gpu", FakeGpu * 16),
    ]


class FakeNvml:
    """The library, and its state in `folder`: fields of `state` and `gpus` may be set at any time."""

    def __init__(self, folder: Path, gpus: int = 2, *, old_driver: bool = False) -> None:
        self.library = build(old_driver=old_driver)
        self.path = folder / "nvml-state"
        self.path.write_bytes(bytes(ctypes.sizeof(_State)))
        with self.path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.state = _State.from_buffer(self._map)
        self.gpus = self.state.gpu
        for _ in range(gpus):
            self.add()

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to meet this driver."""
        known = os.environ.get("LD_LIBRARY_PATH", "")
        return {"LD_LIBRARY_PATH": f"{self.library.parent}:{known}", "FAKE_NVML_STATE": str(self.path)}

    def add(self, parent: int | None = None) -> FakeGpu:
        """Add a GPU, or a MIG instance of one."""
        gpu = FakeGpu(
            total=TOTAL, used=GIB, reserved=GIB // 2, util=7, temp=41, power_mw=92_400, limit_mw=700_000,
            parent=0 if parent is None else parent + 1, xid_instance=WHOLE_GPU,
        )  # fmt: skip
        self.gpus[self.state.count] = gpu
        self.state.count += 1
        added: FakeGpu = self.gpus[self.state.count - 1]
        return added


@functools.cache
def build(*, old_driver: bool = False) -> Path:
    """Compile the library, once for all tests."""
    folder = Path(tempfile.mkdtemp(prefix="fake-nvml-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "These tests build a small C library: install a C compiler (Debian: apt-get install gcc)."
    library = folder / "libnvidia-ml.so.1"
    flags = ["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"]
    flags += ["-DOLD_DRIVER"] if old_driver else []
    done = subprocess.run([compiler, *flags, "-o", library, SOURCE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


@contextlib.contextmanager
def using(driver: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    """Let nvidia-ml-py of this process meet the driver."""
    with monkeypatch.context() as patch:
        patch.setenv("FAKE_NVML_STATE", str(driver.path))
        patch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(driver.library)))
        patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        yield driver

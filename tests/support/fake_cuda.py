"""A fake libcuda.so.1 beside the fake NVML: what a process takes through it, NVML's GPUs are seen to use."""

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from support.fake_nvml import FakeNvml

SOURCE = Path(__file__).parent / "nvml" / "cuda.c"


def environ(driver: FakeNvml, **faults: str) -> dict[str, str]:
    """Return what a process needs to meet this driver with both libraries. `faults` are those that cuda.c knows."""
    known = driver.environ
    both = {"LD_LIBRARY_PATH": f"{build().parent}:{known['LD_LIBRARY_PATH']}", "FAKE_NVML_UUIDS": "1"}
    return known | both | {f"FAKE_CUDA_{name.upper()}": value for name, value in faults.items()}


@functools.cache
def build() -> Path:
    """Compile the library, once for all tests."""
    folder = Path(tempfile.mkdtemp(prefix="fake-cuda-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "These tests build a small C library: install a C compiler (Debian: apt-get install gcc)."
    library = folder / "libcuda.so.1"
    flags = ["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    done = subprocess.run([compiler, *flags, "-o", library, SOURCE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library

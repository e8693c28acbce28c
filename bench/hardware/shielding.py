"""Ask the call that TensorRT-LLM 1.2.1 makes wrongly, as our shield makes it: `python -m bench.hardware.shielding`.

A process of its own: passed otherwise, the structure makes the driver write somewhere. Started by `__main__`.
"""

import sys

import pynvml

from bench.hardware.children import die_with_parent
from rhapsode_worker.engines.tensorrt_llm_shield import shield_nvml

_FIELDS = ("environment", "ccFeature", "devToolsMode", "multiGpuMode")


def ask() -> str:
    """Return what the driver answered."""
    shield_nvml()
    pynvml.nvmlInit()
    settings = pynvml.c_nvmlSystemConfComputeSettings_v1_t()
    try:
        code = pynvml.nvmlSystemGetConfComputeSettings(settings)
    except pynvml.NVMLError as exc:
        return f"the driver has no such call: {exc}"
    if code:
        return f"refused without harm: {pynvml.NVMLError(code)}"
    return "answered: " + ", ".join(f"{name} {getattr(settings, name)}" for name in _FIELDS)


if __name__ == "__main__":
    die_with_parent()
    sys.stdout.write(ask())

"""Keep TensorRT-LLM from crashing inside NVML. Called by `tensorrt_llm_importing` and `tensorrt_llm_site`.

1.2.1 hands a structure to `nvmlSystemGetConfComputeSettings` by value where the driver wants its address
(NVIDIA/TensorRT-LLM#18816): the process dies after its weights are loaded. Wrapped, a structure goes by address.
"""

import ctypes
from typing import Any


def shield_nvml() -> None:
    """Wrap the call, once; without NVML's module there is nothing to do."""
    try:
        import pynvml
    except ImportError:
        return
    known = getattr(pynvml, "nvmlSystemGetConfComputeSettings", None)
    if known is None or getattr(known, "shielded", False):
        return

    def by_address(settings: Any) -> Any:
        return known(ctypes.byref(settings) if isinstance(settings, ctypes.Structure) else settings)

    by_address.shielded = True  # type: ignore[attr-defined]
    pynvml.nvmlSystemGetConfComputeSettings = by_address

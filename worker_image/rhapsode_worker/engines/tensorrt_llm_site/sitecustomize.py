"""Python runs this at the start of every process that TensorRT-LLM starts: `tensorrt_llm_importing` names its folder.

It shields NVML there too, then runs the `sitecustomize` that it hides, if there is one. Nothing in here may keep a
process from starting.
"""

import contextlib
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

with contextlib.suppress(Exception):
    from rhapsode_worker.engines.tensorrt_llm_shield import shield_nvml

    shield_nvml()

_here = Path(__file__).parent
_found = PathFinder.find_spec("sitecustomize", [entry for entry in sys.path if Path(entry or ".").resolve() != _here])
if _found is not None and _found.loader is not None:
    _found.loader.exec_module(module_from_spec(_found))

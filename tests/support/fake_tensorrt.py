"""Lend this process the fake package tensorrt_llm; a process of its own takes it from PYTHONPATH."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

FAKES = Path(__file__).parent.parent / "fakes"
_NAMES = ("TLLM_NUMA_AWARE_WORKER_AFFINITY", "TLLM_WORKER_USE_SINGLE_PROCESS", "TLLM_LOG_LEVEL", "PYTHONPATH")


@contextlib.contextmanager
def lent(**environ: str) -> Iterator[None]:
    """While it lasts, `import tensorrt_llm` finds the fake. What an import leaves behind is taken away after it."""
    kept = {name: os.environ.get(name) for name in (*_NAMES, *environ)}
    os.environ.update(environ)
    sys.path.insert(0, str(FAKES))
    try:
        yield
    finally:
        sys.path.remove(str(FAKES))
        for name in [one for one in sys.modules if one.partition(".")[0] in ("tensorrt_llm", "xgrammar")]:
            del sys.modules[name]
        for name, value in kept.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def fakes_environ(**environ: str) -> dict[str, str]:
    """Return what a process needs to find the fake."""
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(FAKES), known)))} | environ

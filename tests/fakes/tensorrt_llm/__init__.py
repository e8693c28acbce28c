"""A stand-in for the package tensorrt_llm: its committed signatures and the ways of `generate_async`, without a GPU.

Put `tests/fakes` on the PYTHONPATH of an engine process. What is reproduced is listed in `executor/result.py`; the
signatures are compared with `tensorrt_llm_signatures.yaml`. FAKE_TRTLLM_SCRIPT names a JSON file that says what the
import and the load do (`scripting`). Prompts that hold [[refuse]] or [[fatal]]
meet what their name says; at [[vanish]] the executor is gone and tells nobody. An answer to [[endless]] lacks its last
token until it is cancelled, so a test that catches it in the middle cannot come too late.
"""

import os

from .scripting import play

__version__ = os.environ.get("FAKE_TRTLLM_VERSION", "1.2.1")
play("import")
print(f"[TensorRT-LLM] TensorRT LLM version: {__version__}", flush=True)

from .llmapi import LLM, SamplingParams  # noqa: E402 (the real one announces itself before its API is there)

__all__ = ["LLM", "SamplingParams", "__version__"]

"""The pure parts of TensorRT-LLM's adapter: its options and their page, its failures, its shield."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rhapsode_contract.conditions import REASONS
from rhapsode_worker.engines import LoadPlan
from rhapsode_worker.engines.tensorrt_llm_failures import CAUSES, explain, find_cause
from rhapsode_worker.engines.tensorrt_llm_importing import SITE
from rhapsode_worker.engines.tensorrt_llm_options import FIXED, OPTIONS, read_plan
from rhapsode_worker.engines.tensorrt_llm_signatures import committed
from rhapsode_worker.errors import LoadError
from support.documents import ROOT
from support.fake_nvml import FakeNvml

ROW = re.compile(r"^\| `(\w+)` \| `?([\w.]*)`? \| (.+?) \| (.+?) \|$", re.MULTILINE)


def plan(gpus: int = 1, tokens: int = 2048, **options: Any) -> LoadPlan:
    return LoadPlan(
        engine="TensorRTLLM", model="m", max_sequences=64, max_context_tokens=tokens, options=options, gpus=gpus
    )


def test_the_page_has_the_table_of_the_code() -> None:
    page = (ROOT / "docs/engines.md").read_text().partition("## TensorRTLLM")[2].partition("\n## ")[0]
    rows = {name: (target, default, what) for name, target, default, what in ROW.findall(page)}
    wanted = {name: (one.target, one.default, one.what + _bounds(one)) for name, one in OPTIONS.items()}
    assert {name: rows.get(name) for name in wanted} == wanted
    assert {name: rows[name][0] for name in FIXED} == dict(FIXED)
    assert rows.keys() == wanted.keys() | FIXED.keys()


def _bounds(option: Any) -> str:
    return f": {', '.join(option.allowed)}" if option.allowed else ""


def test_every_argument_that_an_option_names_is_committed() -> None:
    known = committed()
    names = {*known["arguments"], *known["callables"]["tensorrt_llm.LLM"]["used"]}
    fields = known["callables"]["tensorrt_llm.llmapi.KvCacheConfig"]["used"]
    for target in (*(one.target for one in OPTIONS.values()), *FIXED.values()):
        if target.startswith("kv_cache_config."):
            assert target.partition(".")[2] in fields
        elif target and not target.startswith("TLLM_"):
            assert target in names


def test_a_step_takes_the_longest_prompt() -> None:
    """A longer one than a step would be refused by the engine though it fits the context."""
    assert read_plan(plan()).arguments["max_num_tokens"] == 8192
    assert read_plan(plan(tokens=32_768)).arguments["max_num_tokens"] == 32_768
    assert read_plan(plan(maxBatchTokens=4096)).arguments["max_num_tokens"] == 4096


@pytest.mark.parametrize(
    ("gpus", "options", "tensor"),
    [(1, {}, 1), (4, {}, 4), (4, {"pipelineParallelSize": 2}, 2), (4, {"tensorParallelSize": 2}, 2)],
)
def test_all_gpus_work_unless_told_otherwise(gpus: int, options: dict[str, Any], tensor: int) -> None:
    assert read_plan(plan(gpus, **options)).arguments["tensor_parallel_size"] == tensor


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kvCacheFraction": 1.5}, "Set spec.engine.options.kvCacheFraction to at most 1."),
        ({"kvCacheFraction": "much"}, "type float or int"),
        ({"loadFormat": "fast"}, "to one of auto, dummy."),
        ({"guidedDecoding": "outlines"}, "xgrammar, llguidance, none"),
        ({"tensorParallelSize": 2}, "needs 2 GPUs, and there is 1. Set spec.gpus to 2"),
        ({"arguments": {"max_batch_size": 4}}, "Remove spec.engine.options.arguments.max_batch_size"),
        ({"arguments": {"model": "/etc"}}, "Remove spec.engine.options.arguments.model"),
        ({"max_batch_size": 4}, "has no option 'max_batch_size'"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_right(options: dict[str, Any], words: str) -> None:
    with pytest.raises(LoadError) as caught:
        read_plan(plan(**options))
    assert caught.value.reason == "BadEngineOption"
    assert words in str(caught.value)


def test_its_environment_is_set_before_the_import() -> None:
    assert read_plan(plan()).environ == {"TLLM_NUMA_AWARE_WORKER_AFFINITY": "0", "TLLM_LOG_LEVEL": "INFO"}
    assert read_plan(plan(singleProcess=True, numaAffinity=True, logLevel="DEBUG")).environ == {
        "TLLM_NUMA_AWARE_WORKER_AFFINITY": "1", "TLLM_WORKER_USE_SINGLE_PROCESS": "1", "TLLM_LOG_LEVEL": "DEBUG",
    }  # fmt: skip


def test_none_switches_guided_decoding_off() -> None:
    assert "guided_decoding_backend" not in read_plan(plan(guidedDecoding="none")).arguments


RECORDED = [
    (
        ("[TRT-LLM] [RANK 2] [E] Error executing load_single_module with args ('model.layers.9.mlp', Linear()): CUDA out"
        " of memory. Tried to allocate 40.00 MiB. GPU 0 has a total capacity of 22.07 GiB of which 20.62 MiB is free."
        " Process 157 has 270.00 MiB memory in use."),
        "CUDAOutOfMemory", "40.00 MiB asked, 20.62 MiB of 22.07 GiB free",
    ),
    (
        ("Failed to initialize executor on rank 1: Executor creation failed due to insufficient GPU memory.\n\nThe"
        " following component could not be created: KV cache\nTotal GPU memory (GiB): 140.06\nFree GPU memory before"
        " component creation attempt (GiB): 108.86"),
        "CUDAOutOfMemory", "108.86 of 140.06 GiB were free, too little for the KV cache",
    ),
    (
        ("[TensorRT-LLM][ERROR] CUDA runtime error in ::cudaMallocAsync(ptr, n, mCudaStream->get()): out of memory"
        " (/app/tensorrt_llm/cpp/tensorrt_llm/runtime/tllmBuffers.h:112)"),
        "CUDAOutOfMemory", "CUDA out of memory",
    ),
    (
        "ValueError: Unknown architecture for AutoModelForCausalLM: MiniMaxM2ForCausalLM",
        "ModelNotSupported", "MiniMaxM2ForCausalLM",
    ),
    (
        ("The checkpoint you are trying to load has model type `qwen9` but Transformers does not recognize this"
        " architecture."),
        "ModelNotSupported", "qwen9",
    ),
    (
        "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
        "CheckpointBroken", "MetadataIncompleteBuffer",
    ),
    ("RuntimeError: No weight files found in /models/m.", "CheckpointBroken", "no weights"),
    (
        "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=0",
        "DriverMismatch", "driver version is insufficient",
    ),
    (
        "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver",
        "DriverMismatch", "12020",
    ),
    (
        ("Failed, NCCL error /src/tensorrt_llm/cpp/tensorrt_llm/runtime/ncclCommunicator.cpp:122 'internal error - please"
        " report this issue to the NCCL developers'"),
        "GPUsNotConnected", "internal error",
    ),
    (
        "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
        "GPUsNotConnected", "unhandled system error",
    ),
    (
        ("terminate called after throwing an instance of 'tensorrt_llm::common::TllmException' Assertion failed: Failed:"
        " MPI error"),
        "GPUsNotConnected", "Failed: MPI error",
    ),
    (
        ("torch.distributed.DistBackendError: NCCL error in: /app/NCCLUtils.cpp:94\nncclSystemError: System call (e.g."
        " socket, malloc) or external library call failed\nError while creating shared memory segment"
        " /dev/shm/nccl-cjY8K5 (size 10617216), error: No space left on device (28)"),
        "SharedMemoryMissing", "10617216 bytes were asked for /dev/shm/nccl-cjY8K5",
    ),
    (
        "RuntimeError: unable to write to file </torch_739_144252761_4>: No space left on device (28)",
        "SharedMemoryMissing", "its shared memory is full",
    ),
    (
        "ValueError: Unknown architecture for AutoModelForMultimodalEncoder: FooVisionModel",
        "ModelNotSupported", "FooVisionModel",
    ),
    ("CUDA error 804 (Forward compatibility was attempted on non supported HW)", "DriverMismatch", "non supported HW"),
    (
        "OSError: You are trying to access a gated repo.\nMake sure to have access to it at https://huggingface.co/m",
        "ModelGated", "gated",
    ),
    ("ValueError: LLM got invalid argument: speed", "BadEngineOption", "speed"),
    (
        "1 validation error for TorchLlmArgs\nmax_beam_width\n  Input should be a valid integer [type=int_parsing]",
        "BadEngineOption", "max_beam_width: Input should be a valid integer",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason", "words"), RECORDED, ids=[f"{one[1]}-{at}" for at, one in enumerate(RECORDED)]
)
def test_a_recorded_failure_is_told_apart(text: str, reason: str, words: str) -> None:
    found = find_cause(text)
    assert found is not None
    assert (found.reason, found.remedy) == (reason, REASONS[reason].remedy)
    assert words in found.why


def test_every_cause_is_a_condition_reason_with_a_remedy() -> None:
    assert {one.reason for one in CAUSES} <= REASONS.keys()
    assert all(REASONS[one.reason].remedy for one in CAUSES)


def test_a_failure_that_nobody_knows_keeps_its_own_words() -> None:
    assert find_cause("the moon is in the wrong house") is None
    found = explain(RuntimeError("the moon is in the wrong house"))
    assert found is not None
    assert (found.reason, found.why) == (
        "ModelLoadFailed",
        "TensorRT-LLM says: RuntimeError: the moon is in the wrong house",
    )


def test_what_an_executor_wraps_is_unwrapped() -> None:
    outer = RuntimeError("Executor worker returned error")
    outer.__cause__ = ValueError("Unknown architecture for AutoModelForCausalLM: OPTForCausalLM")
    found = explain(outer)
    assert found is not None
    assert found.reason == "ModelNotSupported"


def test_a_worker_that_died_says_it_in_its_last_lines() -> None:
    assert explain(RuntimeError("Executor worker died during initialization")) is None


CALL = (
    "import pynvml; pynvml.nvmlInit(); settings = pynvml.c_nvmlSystemConfComputeSettings_v1_t();"
    "assert pynvml.nvmlSystemGetConfComputeSettings(settings) == 0; print(settings.multiGpuMode)"
)


def test_every_process_below_is_shielded_from_the_crash_inside_nvml(tmp_path: Path) -> None:
    """The stand-in driver writes through the address that it is given, as a driver does."""
    (tmp_path / "sitecustomize.py").write_text("print('the hidden one ran')")
    nvml = FakeNvml(tmp_path)
    environ = nvml.environ | {"PYTHONPATH": ":".join([str(SITE), str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", CALL], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "the hidden one ran\n7\n"), done.stderr

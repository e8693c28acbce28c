"""Why TensorRT-LLM could not load, told apart by its words. Pure; called by `tensorrt_llm`, and by `giving_up`.

A comment says where a text was found: in a file of a public repository, or in an issue. None of them was seen by us
on a GPU, and what could not be found says so. `#7` alone is an issue of NVIDIA/TensorRT-LLM, and a path alone is one
of its files. What nobody here knows is left to its own words: a wrong remedy is worse than none.
"""

import re
from typing import NamedTuple

from rhapsode_contract.conditions import REASONS
from rhapsode_worker.errors import LoadError


class Cause(NamedTuple):
    """A condition reason, how it shows, and what to say; the pattern's groups fill it. Remedies are the reasons'."""

    reason: str
    pattern: re.Pattern[str]
    what: str


def _cause(reason: str, pattern: str, what: str) -> Cause:
    return Cause(reason, re.compile(pattern, re.DOTALL), what)


CAUSES = (
    # llmapi/llm.py; the class before it may be named _TrtLLM or _TorchLLM.
    _cause("BadEngineOption", r"LLM got invalid argument: (?P<name>\w+)", "LLM has no argument {name}"),
    # pydantic's ValidationError, with a field; TensorRT-LLM's argument classes are made with it.
    _cause(
        "BadEngineOption", r"validation errors? for \w+\n(?P<name>[\w.]+)\n\s+(?P<words>[^\[\n]{1,160})",
        "TensorRT-LLM refuses {name}: {words}",
    ),
    # tensorrt_llm/_torch/models/modeling_auto.py; #5510, #7706. Before memory: a log may hold an OutOfMemory that was
    # survived.
    _cause(
        "ModelNotSupported", r"Unknown architecture for AutoModelFor\w{1,40}: (?P<name>\w+)",
        "TensorRT-LLM does not know the architecture {name}",
    ),
    # models/auto/configuration_auto.py of huggingface/transformers, as its users quote it.
    _cause(
        "ModelNotSupported", r"has model type `(?P<name>[\w.-]+)` but Transformers does not recognize",
        "the transformers of this image do not know the model type {name}",
    ),
    # c10/cuda/CUDACachingAllocator.cpp of pytorch/pytorch; #7818, #8642. Older ones write `capacty`.
    _cause(
        "CUDAOutOfMemory",
        r"CUDA out of memory\. Tried to allocate (?P<asked>[\d.]+ \wiB)"
        r".{0,200}?total capaci?ty of (?P<total>[\d.]+ \wiB) of which (?P<free>[\d.]+ (?:\wiB|bytes)) is free",
        "CUDA out of memory: {asked} asked, {free} of {total} free",
    ),
    # tensorrt_llm/_torch/pyexecutor/py_executor_creator.py; #5872, #5950.
    _cause(
        "CUDAOutOfMemory",
        r"due to insufficient GPU memory\..{0,200}?could not be created: (?P<part>[^\n]{1,60})"
        r".{0,200}?Total GPU memory \(GiB\): (?P<total>[\d.]+)"
        r".{0,200}?before component creation attempt \(GiB\): (?P<free>[\d.]+)",
        "CUDA out of memory: {free} of {total} GiB were free, too little for the {part}",
    ),
    # `check` of cpp/include/tensorrt_llm/common/cudaUtils.h, called in tllmBuffers.h and ipcUtils.cpp; #498, #1060,
    # #1556, triton-inference-server/tensorrtllm_backend#195. `CUDA error: out of memory`: not verified.
    _cause(
        "CUDAOutOfMemory",
        r"CUDA runtime error in [^\n]{1,120}: out of memory|CUDA out of memory|CUDA error: out of memory",
        "CUDA out of memory",
    ),
    # misc/shmutils.cc of NVIDIA/nccl; vllm-project/vllm#11054. Before NCCL's own error, which it leads to.
    _cause(
        "SharedMemoryMissing",
        r"creating shared memory segment (?P<path>/dev/shm/\S+) \(size (?P<size>\d+)\)",
        "NCCL got no shared memory: {size} bytes were asked for {path}",
    ),
    # torch's shared memory: logicalclocks/hopsworks#1557, idiap/ESLAM#20. Python's OSError with a file of /dev/shm:
    # not verified.
    _cause(
        "SharedMemoryMissing",
        r"</torch_\w{1,80}>[^\n]{0,40}: No space left on device"
        r"|No space left on device[^\n]{0,80}/dev/shm|/dev/shm[^\n]{0,80}No space left on device",
        "its shared memory is full: /dev/shm",
    ),
    # CUDA's words for its errors 35, 803 and 804, as its users quote them; the case of letters differs.
    _cause(
        "DriverMismatch",
        r"(?P<words>(?i:CUDA driver version is insufficient for CUDA runtime version"
        r"|system has unsupported display driver / cuda driver combination"
        r"|forward compatibility was attempted on non supported HW))",
        "CUDA says: {words}",
    ),
    # torch's check of the driver and NVML's word for its error 18, as their users quote them; the loader's own words.
    # torch's number is that of the CUDA version that the driver can do.
    _cause(
        "DriverMismatch",
        r"(?P<words>NVIDIA driver on your system is too old \(found version \d+\)"
        r"|Driver/library version mismatch|Found no NVIDIA driver on your system"
        r"|libcuda\.so\.1: cannot open shared object file)",
        "the GPU's driver cannot be used: {words}",
    ),
    # torch's c10d/NCCLUtils.hpp (vllm-project/vllm#10523); ncclCommunicator.cpp (#9263); allreducePlugin.cpp (#213,
    # #1039).
    _cause(
        "GPUsNotConnected",
        r"NCCL error(?: in)?:? [^\n]{0,200}?(?P<words>nccl\w+Error|'[^'\n]+'|unhandled \w+ error)",
        "NCCL, which connects the GPUs, says {words}",
    ),
    # `Failed: MPI error`: mpiUtils.cpp, #1826. Open MPI's own texts: MPI_ABORT #2813, opal_init #2801, the slots and
    # orte_init in the archive of its users' list. MPI_ERR_SPAWN is quoted by users; other MPI_ERR_: not verified.
    _cause(
        "GPUsNotConnected",
        r"(?P<words>MPI_ABORT was invoked|MPI_ERR_\w+|Failed: MPI error|There are not enough slots available"
        r"|opal_init failed|orte_init failed)",
        "MPI, which starts a process for each GPU, says {words}",
    ),
    # utils/hub.py of huggingface/transformers; the hub's own answer, in huggingface_hub's GatedRepoError.
    _cause(
        "ModelGated", r"You are trying to access a gated repo|GatedRepoError|Access to model \S+ is restricted",
        "the model, or its tokenizer, is gated at the hub",
    ),
    # bindings/python/src/lib.rs of huggingface/safetensors.
    _cause(
        "CheckpointBroken", r"Error while deserializing header: (?P<words>[^\n]{1,80})",
        "a .safetensors file is broken: {words}",
    ),
    # tensorrt_llm/_torch/models/checkpoints/hf/weight_loader.py.
    _cause("CheckpointBroken", r"No weight files found in", "the folder holds no weights"),
    # torch's words for copy_ and load_state_dict with shapes that do not fit. That TensorRT-LLM's loader comes to one
    # of them: not verified.
    _cause(
        "CheckpointBroken",
        r"The size of tensor a \(\d+\) must match the size of tensor b|size mismatch for (?P<name>\S+)",
        "the weights do not fit the config.json beside them",
    ),
)  # fmt: skip


def find_cause(text: str) -> LoadError | None:
    """Return what a text of TensorRT-LLM means, if it is known."""
    for cause in CAUSES:
        if found := cause.pattern.search(text):
            words = {name: value for name, value in found.groupdict().items() if value}
            return LoadError(cause.reason, cause.what.format(**words), REASONS[cause.reason].remedy)
    return None


def words_of(exc: BaseException) -> str:
    """Return all that an exception says, with its causes: an executor wraps what its worker said."""
    said: list[str] = []
    seen: set[int] = set()
    at: BaseException | None = exc
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        said.append(f"{type(at).__name__}: {at}")
        at = at.__cause__ or at.__context__
    return "\n".join(said)


def explain(exc: BaseException) -> LoadError | None:
    """Return what a failed load means; None if only the engine's last lines can tell."""
    said = words_of(exc)
    if known := find_cause(said):
        return known
    if "died during initialization" in said:
        return None
    line = next((one for one in said.splitlines() if "Executor worker returned error" not in one), said)
    return LoadError(
        "ModelLoadFailed",
        f"TensorRT-LLM says: {line[:300]}",
        "Check the model and spec.engine.options; the worker's log has what came before.",
    )

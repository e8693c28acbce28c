"""What a manifest says, as the arguments of TensorRT-LLM's constructor. Pure; called by `tensorrt_llm`.

One table. It is checked before the package is imported: that takes minutes, and its own argument classes ask a GPU.
`docs/engines.md` shows the same table; a test compares the two.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rhapsode_worker.engines import LoadPlan, check_options
from rhapsode_worker.errors import LoadError

DEFAULT_BATCH_TOKENS = 8192


class Option(NamedTuple):
    """One option: what it is called at TensorRT-LLM (a dotted name is a field of a config) and what it may be."""

    target: str
    kinds: tuple[type, ...]
    default: str
    what: str
    allowed: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None


OPTIONS: Mapping[str, Option] = {
    "kvCacheFraction": Option(
        "kv_cache_config.free_gpu_memory_fraction", (float, int), "0.9",
        "share of the memory that the weights leave, for the KV cache", least=0.01, most=1,
    ),
    "kvCacheTokens": Option(
        "kv_cache_config.max_tokens", (int,), "no limit", "tokens in the KV cache; the lower limit wins", least=32
    ),
    "kvCacheDtype": Option(
        "kv_cache_config.dtype", (str,), "`auto`", "type of the KV cache's numbers", ("auto", "fp8", "nvfp4")
    ),
    "kvCacheReuse": Option(
        "kv_cache_config.enable_block_reuse", (bool,), "true", "reuse the KV cache of equal beginnings"
    ),
    "kvCacheHostBytes": Option(
        "kv_cache_config.host_cache_size", (int,), "0",
        "bytes of main memory for blocks that the GPU has no room for", least=0,
    ),
    "maxBatchTokens": Option(
        "max_num_tokens", (int,), f"{DEFAULT_BATCH_TOKENS}, at least `maxContextTokens`", "tokens of one step",
        least=16,
    ),
    "chunkedPrefill": Option("enable_chunked_prefill", (bool,), "false", "split long prompts over steps"),
    "tensorParallelSize": Option(
        "tensor_parallel_size", (int,), "all of `gpus`", "GPUs that share each layer", least=1, most=64
    ),
    "pipelineParallelSize": Option(
        "pipeline_parallel_size", (int,), "1", "groups of GPUs that share the layers", least=1, most=64
    ),
    "dtype": Option(
        "dtype", (str,), "`auto`", "type of the weights' numbers", ("auto", "bfloat16", "float16", "float32")
    ),
    "loadFormat": Option(
        "load_format", (str,), "`auto`", "`dummy`: random weights; only the folder's config and tokenizer are read",
        ("auto", "dummy"),
    ),
    "cudaGraphs": Option(
        "cuda_graph_config", (bool,), "true", "record CUDA graphs; false starts sooner and answers slower"
    ),
    "autotuner": Option(
        "enable_autotuner", (bool,), "true", "choose kernels by measuring; false starts a minute sooner"
    ),
    "guidedDecoding": Option(
        "guided_decoding_backend", (str,), "`xgrammar`", "what keeps answers to guides",
        ("xgrammar", "llguidance", "none"),
    ),
    "trustRemoteCode": Option("trust_remote_code", (bool,), "false", "run code that comes with the model"),
    "singleProcess": Option(
        "TLLM_WORKER_USE_SINGLE_PROCESS", (bool,), "false",
        "run a single GPU's engine without an MPI process of its own: starts sooner, streams slower",
    ),
    "numaAffinity": Option(
        "TLLM_NUMA_AWARE_WORKER_AFFINITY", (bool,), "false",
        "let TensorRT-LLM pin its processes to a GPU's CPUs; in a pod it would leave the pod's",
    ),
    "logLevel": Option(
        "TLLM_LOG_LEVEL", (str,), "`INFO`", "what TensorRT-LLM prints; below INFO the load tells less",
        ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR"),
    ),
    "arguments": Option("", (dict,), "`{}`", "other arguments of `LLM`, by its own names"),
}  # fmt: skip
FIXED: Mapping[str, str] = {
    "maxSequences": "max_batch_size",
    "maxContextTokens": "max_seq_len",
}
"""Fields of `spec.engine` that are arguments too."""

_DEFAULTS: Mapping[str, Any] = {"guidedDecoding": "xgrammar"}
_KV = "kv_cache_config."
_ALWAYS = {"enable_iter_perf_stats": True, "return_perf_metrics": True}
"""So that there is something to tell."""


class Wishes(NamedTuple):
    """What `LLM` is made with, and the environment that it is imported in."""

    arguments: dict[str, Any]
    kv_cache: dict[str, Any]
    cuda_graphs: bool
    environ: dict[str, str]
    gpus: int


def read_plan(plan: LoadPlan) -> Wishes:
    """Return the arguments that a plan comes to. Raises LoadError."""
    check_options(plan.options, {name: option.kinds for name, option in OPTIONS.items()}, "TensorRTLLM")
    for name, value in plan.options.items():
        _check(name, OPTIONS[name], value)
    options = {**_DEFAULTS, **plan.options}
    own = options.pop("arguments", {})
    found = {option.target: options[name] for name, option in OPTIONS.items() if name in options}
    if found.get("guided_decoding_backend") == "none":
        del found["guided_decoding_backend"]
    arguments = _sizes(plan) | _ALWAYS | {name: value for name, value in found.items() if _is_plain(name)}
    _refuse_twice(arguments, own)
    gpus = _count_gpus(plan, arguments)
    kv_cache = {name.removeprefix(_KV): value for name, value in found.items() if name.startswith(_KV)}
    return Wishes(arguments | own, kv_cache, options.get("cudaGraphs", True), _environ(options), gpus)


def count_ranks(plan: LoadPlan) -> int:
    """Return how many processes share the weights, each with a GPU of its own; one if the plan cannot work."""
    try:
        return read_plan(plan).gpus
    except LoadError:
        return 1


def _sizes(plan: LoadPlan) -> dict[str, Any]:
    """Return the limits. A prompt longer than a step would be refused, so a step takes at least a context."""
    return {
        "max_batch_size": plan.max_sequences,
        "max_seq_len": plan.max_context_tokens,
        "max_num_tokens": max(DEFAULT_BATCH_TOKENS, plan.max_context_tokens),
        "tensor_parallel_size": max(1, plan.gpus // plan.options.get("pipelineParallelSize", 1)),
    }


def _is_plain(target: str) -> bool:
    return bool(target) and target.islower() and "." not in target and target != "cuda_graph_config"


def _check(name: str, option: Option, value: Any) -> None:
    if option.allowed and value not in option.allowed:
        _refuse(name, value, f"one of {', '.join(option.allowed)}")
    if option.least is not None and value < option.least:
        _refuse(name, value, f"at least {option.least:g}")
    if option.most is not None and value > option.most:
        _refuse(name, value, f"at most {option.most:g}")


def _refuse(name: str, value: Any, wanted: str) -> None:
    raise LoadError(
        "BadEngineOption",
        f"option {name!r} of TensorRTLLM is {value!r}",
        f"Set spec.engine.options.{name} to {wanted}.",
    )


def _refuse_twice(arguments: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse what can be said in two ways, and what is not for a manifest to say."""
    ours = {*arguments, "model", "kv_cache_config", "cuda_graph_config"}
    if twice := sorted(ours & own.keys()):
        raise LoadError(
            "BadEngineOption",
            f"option 'arguments' of TensorRTLLM sets {twice[0]}, which has an option or a field of its own",
            f"Remove spec.engine.options.arguments.{twice[0]}; see docs/engines.md.",
        )


def _count_gpus(plan: LoadPlan, arguments: Mapping[str, Any]) -> int:
    tensor, pipeline = arguments["tensor_parallel_size"], arguments.get("pipeline_parallel_size", 1)
    if tensor * pipeline > plan.gpus:
        raise LoadError(
            "BadEngineOption",
            f"tensorParallelSize {tensor} × pipelineParallelSize {pipeline} needs {tensor * pipeline} GPUs,"
            f" and there {'is' if plan.gpus == 1 else 'are'} {plan.gpus}",
            f"Set spec.gpus to {tensor * pipeline}, or lower the options.",
        )
    return int(tensor * pipeline)


def _environ(options: Mapping[str, Any]) -> dict[str, str]:
    """Return variables that must be set before the import.

    Unless affinity is off, TensorRT-LLM answers a restricted set of CPUs, which every pod with whole CPUs has, by
    taking all of the machine's. Unless the level is set here, its MPI processes, which do all the loading, tell
    warnings only: what a load is narrated from would not be printed.
    """
    found = {"TLLM_NUMA_AWARE_WORKER_AFFINITY": "1" if options.get("numaAffinity") else "0"}
    if options.get("singleProcess"):
        found["TLLM_WORKER_USE_SINGLE_PROCESS"] = "1"
    found["TLLM_LOG_LEVEL"] = options.get("logLevel", "INFO")
    return found

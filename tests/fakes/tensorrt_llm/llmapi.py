"""The API: signatures as committed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .executor.result import CompletionOutput, RequestOutput
from .executor.utils import RequestError
from .executor.worker import STEP_S, Worker
from .sampling_params import GuidedDecodingParams, SamplingParams
from .scripting import play
from .tokenizing import END, PAD, ByteTokenizer, TransformersTokenizer

__all__ = ["LLM", "CompletionOutput", "GuidedDecodingParams", "KvCacheConfig", "RequestOutput", "SamplingParams"]

KNOWN = {
    "max_batch_size", "max_num_tokens", "max_seq_len", "max_beam_width", "kv_cache_config", "cuda_graph_config",
    "enable_autotuner", "guided_decoding_backend", "stream_interval", "enable_chunked_prefill", "enable_lora",
    "lora_config", "speculative_config", "scheduler_config", "batched_logits_processor", "enable_iter_perf_stats",
    "enable_iter_req_stats", "iter_stats_max_iterations", "max_stats_len", "print_iter_log", "return_perf_metrics",
    "perf_metrics_max_requests", "load_format", "orchestrator_type", "env_overrides", "otlp_traces_endpoint",
    "num_postprocess_workers", "garbage_collection_gen0_threshold", "model_kwargs", "enable_sleep",
    "checkpoint_format", "pipeline_parallel_size", "backend",
}  # fmt: skip


@dataclass(kw_only=True)
class KvCacheConfig:
    """How much of a GPU the KV cache takes."""

    enable_block_reuse: bool = True
    max_tokens: int | None = None
    max_attention_window: list[int] | None = None
    sink_token_length: int | None = None
    free_gpu_memory_fraction: float = 0.9
    host_cache_size: int | None = None
    onboard_blocks: bool = True
    secondary_offload_min_priority: int | None = None
    event_buffer_max_size: int = 0
    attention_dp_events_gather_period_ms: int = 5
    enable_partial_reuse: bool = True
    copy_on_partial_reuse: bool = True
    use_uvm: bool = False
    max_gpu_total_bytes: int = 0
    dtype: str = "auto"
    tokens_per_block: int = 32


class LLM:
    """One model, loaded."""

    made: ClassVar[list[Any]] = []
    """All of them, for tests in this process."""

    def __init__(
        self,
        model: str,
        tokenizer: Any = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        for name in kwargs:
            if name not in KNOWN:
                raise ValueError(f"LLM got invalid argument: {name}")
        self.arguments = {"model": model, "tensor_parallel_size": tensor_parallel_size, "dtype": dtype, **kwargs}
        self.sampling_seen: list[SamplingParams] = []
        _refuse_unknown_architecture(model)
        play("load")
        kv_cache = kwargs.get("kv_cache_config") or KvCacheConfig()
        self.worker = Worker(
            kwargs.get("max_batch_size", 2048), kv_cache.enable_block_reuse, kwargs.get("return_perf_metrics", False)
        )
        self.tokenizer = TransformersTokenizer(ByteTokenizer(model))
        self.requests = 0
        LLM.made.append(self)

    def generate_async(
        self,
        inputs: str | list[int],
        sampling_params: SamplingParams | None = None,
        lora_request: Any = None,
        prompt_adapter_request: Any = None,
        streaming: bool = False,
        kv_cache_retention_config: Any = None,
        disaggregated_params: Any = None,
        trace_headers: Any = None,
        _postproc_params: Any = None,
        scheduling_params: Any = None,
        cache_salt: str | None = None,
    ) -> RequestOutput:
        if self.worker.down is not None:
            raise RuntimeError("LLM is shutting down")
        params = self._prepare_sampling_params(sampling_params or SamplingParams())
        ids = (
            self.tokenizer.tokenizer.encode(inputs, params.add_special_tokens) if isinstance(inputs, str) else inputs
        )
        self._check_arguments(len(ids), params)
        self.requests += 1
        output = RequestOutput(self.worker, self.requests, list(ids), params)
        self.worker.submit(output, streaming)
        return output

    def get_stats_async(self, timeout: float | None = 2) -> AsyncIterator[dict[str, Any]]:
        return self._drain_stats(timeout or 0)

    def shutdown(self) -> None:
        play("shutdown")
        self.worker.end(RuntimeError("LLM is shutting down"))

    def _check_health(self) -> bool:
        return self.worker.down is None

    async def _drain_stats(self, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """Give what is there, then what comes before a silence as long as the timeout: while it computes, for ever."""
        until = time.monotonic() + timeout
        while self.requests and time.monotonic() < until:
            while self.worker.steps:
                yield self.worker.steps.popleft()
                until = time.monotonic() + timeout
            await asyncio.sleep(STEP_S)

    def _prepare_sampling_params(self, params: SamplingParams) -> SamplingParams:
        params.end_id, params.pad_id = END, PAD
        self.sampling_seen.append(params)
        return params

    def _check_arguments(self, prompt: int, params: SamplingParams) -> None:
        most = self.arguments.get("max_num_tokens", 8192)
        if prompt > most and not self.arguments.get("enable_chunked_prefill"):
            raise RequestError(f"The prompt length ({prompt}) should not exceed max_num_tokens ({most})")
        if params.guided_decoding is not None and self.arguments.get("guided_decoding_backend") is None:
            raise RequestError("Guided decoding is not enabled")


def _refuse_unknown_architecture(model: str) -> None:
    config = Path(model) / "config.json"
    if config.is_file() and "Exotic" in (name := json.loads(config.read_text())["architectures"][0]):
        cause = ValueError(f"Unknown architecture for AutoModelForCausalLM: {name}")
        raise RuntimeError("Executor worker returned error") from cause

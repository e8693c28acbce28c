"""TensorRT-LLM with its PyTorch backend: the engine for NVIDIA's GPUs. A thin layer over its LLM API.

What that API asks of us: named arguments only; an event loop that runs when a request is made, and its whole life on
that loop; a fresh SamplingParams for each; reading the one object that the iteration gives again and again at once;
an abort whenever we leave early, since leaving stops nothing. The package is imported by `tensorrt_llm_importing`.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from rhapsode_contract import frames
from rhapsode_contract.guides import guide_of
from rhapsode_worker.composing import Composer
from rhapsode_worker.engines import EngineStats, Finished, LoadPlan, Narrate, Prefilled, Step
from rhapsode_worker.engines.tensorrt_llm_failures import explain
from rhapsode_worker.engines.tensorrt_llm_guides import Guides
from rhapsode_worker.engines.tensorrt_llm_importing import Package, import_package, penalises, version_gap
from rhapsode_worker.engines.tensorrt_llm_options import Wishes, read_plan
from rhapsode_worker.engines.tensorrt_llm_requests import (
    cached_tokens,
    encode,
    logprobs_of,
    measured,
    refused,
    render,
    room_after,
    sampling,
)
from rhapsode_worker.errors import LoadError
from rhapsode_worker.templating import calls_tools

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (what the GPUs' processes share)
SHARED_MEMORY_BYTES = 2**30
"""What several GPUs may want there."""
LOOK_S = 1.0
_HEALTH = "_check_health"
STATS_S = 0.1
"""How long the engine's numbers are taken at a time: while requests run there is always another."""
ABORT_S = 5.0
_REASONS: Mapping[str, frames.StopReason] = {"stop": "stop", "length": "length"}


class Ticket:
    """One request; `output` is the engine's side of it, once it is there."""

    def __init__(self) -> None:
        self.output: Any = None
        self.aborted = self.started = False

    def abort(self) -> None:
        self.aborted = True
        if self.output is not None and not self.output.finished:
            self.output.abort()


class TensorRTLLMEngine:
    """Serves a folder with a checkpoint."""

    def __init__(self) -> None:
        self._llm: Any = None
        self._package: Any = None
        self._tokenizer: Any = None
        self._context_tokens = 0
        self._guides = Guides("", "")
        self._tickets: dict[str, Ticket] = {}
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._closing = False
        self._kv: Mapping[str, Any] = {}
        self._watch: asyncio.Task[None] | None = None

    async def load(self, plan: LoadPlan, narrate: Narrate) -> frames.Caps:
        """Import and load in this thread, as the package's own server does: it may want the main one."""
        wishes = read_plan(plan)
        _look_at_shared_memory(wishes.gpus, narrate)
        self._package = import_package(wishes.environ)
        if gap := version_gap(self._package.version):
            narrate("engine_version", engine="TensorRT-LLM", **gap)
        self._llm = _open(self._package, plan.path, wishes)
        self._tokenizer = getattr(self._llm.tokenizer, "tokenizer", self._llm.tokenizer)
        self._context_tokens = plan.max_context_tokens
        self._guides = Guides(wishes.arguments.get("guided_decoding_backend", ""), plan.path)
        await self._warm_up(narrate)
        self._watch = asyncio.create_task(self._look_after())
        return frames.Caps(
            slots=plan.max_sequences,
            context_tokens=plan.max_context_tokens,
            tools=calls_tools(partial(render, self._tokenizer)),
            penalties=penalises(self._package.version),
            logprobs=True,
            **self._guides.kept(),
        )

    async def generate(self, request: frames.Generate) -> AsyncGenerator[Step, None]:
        ticket = self._tickets[request.job_id] = Ticket()
        try:
            ids = await self._run_apart(encode, self._tokenizer, request)
            most = room_after(len(ids), self._context_tokens, request)
            if guide := guide_of(request):
                await self._guides.check(guide, lambda: ticket.aborted)
            if ticket.aborted or self._closing:
                yield Finished("cancelled", 0)
                return
            ticket.output = self._llm.generate_async(
                inputs=ids, sampling_params=sampling(self._package, request, most), streaming=True
            )
            async for step in self._follow(ticket, request, len(ids)):
                yield step
        except self._package.request_error as exc:
            raise refused(exc, request) from exc
        finally:
            ticket.abort()
            if self._tickets.get(request.job_id) is ticket:
                del self._tickets[request.job_id]

    def abort(self, job_id: str) -> None:
        if ticket := self._tickets.get(job_id):
            ticket.abort()

    def stats(self) -> EngineStats:
        active = sum(ticket.started for ticket in self._tickets.values())
        used, total = self._kv.get("usedNumBlocks"), self._kv.get("maxNumBlocks")
        return EngineStats(active=active, queued=len(self._tickets) - active, kv_used=used, kv_total=total)

    async def close(self) -> None:
        """End who runs, then the engine with its processes."""
        self._closing = True
        if self._watch is not None:
            self._watch.cancel()
        for ticket in self._tickets.values():
            ticket.abort()
        await self._guides.close()
        deadline = time.monotonic() + ABORT_S
        while self._tickets and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if self._llm is not None:
            await asyncio.to_thread(self._llm.shutdown)
        self._encoding.shutdown(wait=False)

    async def _follow(
        self, ticket: Ticket, request: frames.Generate, prompt_tokens: int
    ) -> AsyncGenerator[Step, None]:
        """Tell what the engine says until its end, or the first stop string."""
        composer, tokens, ended = Composer(request.stop), 0, None
        async for output in ticket.output:
            said = output.outputs[0]
            text, new, ended = said.text_diff, len(said.token_ids_diff), said.finish_reason
            if not ticket.started and ended != "cancelled":
                ticket.started = True
                yield Prefilled(prompt_tokens, cached_tokens(output))
            tokens += new
            if piece := composer.push(text, new, logprobs_of(said) if request.logprobs else ()):
                yield piece
            if composer.stopped:
                break
        if not composer.stopped and (rest := composer.flush()):
            yield rest
        if found := measured(ticket.output):
            yield found
        yield Finished("stop" if composer.stopped else _REASONS.get(ended or "", "cancelled"), tokens)

    async def _warm_up(self, narrate: Narrate) -> None:
        """Generate one token: an engine that cannot is not loaded."""
        began = time.monotonic()
        request = frames.Generate(job_id="warm-up", correlation_id="", max_tokens=1, prompt="Hello")
        try:
            async for _ in self.generate(request):
                pass
        except Exception as exc:
            raise explain(exc) or exc from exc
        narrate("warmup", ms=(time.monotonic() - began) * 1000)

    async def _look_after(self) -> None:
        """Take the engine's numbers where it has any, and end the process if its executor is gone.

        An executor that dies between two answers tells those who wait nothing.
        """
        while not self._closing:
            await asyncio.sleep(LOOK_S)
            if _is_gone(self._llm) and not self._closing:
                end_process("TensorRT-LLM's executor is gone")
            self._kv = await _latest_blocks(self._llm) or self._kv

    async def _run_apart(self, work: Any, *arguments: Any) -> Any:
        """Return what work comes to that would hold up the event loop; one at a time, as a tokenizer wants it."""
        return await asyncio.get_running_loop().run_in_executor(self._encoding, work, *arguments)


def _is_gone(llm: Any) -> bool:
    """Return whether the executor is down. The method is private: one that is missing or fails tells nothing."""
    try:
        return getattr(llm, _HEALTH)() is False
    except Exception:
        return False


def end_process(why: str) -> None:
    """End this process: the supervisor starts another engine and tells why."""
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    os._exit(os.EX_SOFTWARE)


def _open(package: Package, path: str, wishes: Wishes) -> Any:
    """Return the loaded model. Raises LoadError; other errors if only the last lines can tell what it was."""
    arguments = dict(wishes.arguments)
    if wishes.kv_cache:
        arguments["kv_cache_config"] = package.kv_cache_config(**wishes.kv_cache)
    if not wishes.cuda_graphs:
        arguments["cuda_graph_config"] = None
    try:
        return package.llm(model=path, **arguments)
    except Exception as exc:
        raise explain(exc) or exc from exc


def _look_at_shared_memory(gpus: int, narrate: Narrate) -> None:
    try:
        room = os.statvfs(SHARED_MEMORY)
    except OSError as exc:
        raise LoadError(
            "SharedMemoryMissing",
            f"{SHARED_MEMORY} cannot be used: {exc.strerror}",
            "Give the pod a memory volume at /dev/shm.",
        ) from exc
    size = room.f_frsize * room.f_blocks
    if gpus > 1 and size < SHARED_MEMORY_BYTES:
        narrate("shared_memory_small", size_bytes=size, gpus=gpus)


async def _latest_blocks(llm: Any) -> Mapping[str, Any]:
    """Return the newest numbers of the KV cache; the API is a beta, so anything may be missing."""
    latest: Any = {}
    until = time.monotonic() + STATS_S
    try:
        async for entry in llm.get_stats_async(timeout=0.1):
            latest = entry
            if time.monotonic() > until:
                break
        told = msgspec.json.decode(latest) if isinstance(latest, str) else latest
        blocks = told.get("kvCacheStats")
    except Exception:  # no numbers then
        return {}
    return blocks if isinstance(blocks, dict) else {}

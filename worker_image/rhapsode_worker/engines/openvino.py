"""OpenVINO GenAI with continuous batching and a prefix cache: the embedded default. The only file that imports it.

`step()` computes one token for every running request and holds the interpreter's lock all the while (measured:
17 to 250 ms), which is why an engine has a process of its own. All calls into the pipeline come from one thread
(`Stepper`); requests and cancellations are taken in between two steps.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import openvino_genai as genai

from rhapsode_contract import frames
from rhapsode_contract.guides import guide_of
from rhapsode_worker.engines import EngineStats, Finished, LoadPlan, Narrate, Step, check_options
from rhapsode_worker.engines.guide_checks import GuideChecks
from rhapsode_worker.engines.openvino_guides import last_words
from rhapsode_worker.engines.openvino_steps import Stepper, Ticket, render
from rhapsode_worker.errors import LoadError
from rhapsode_worker.templating import Conversation, calls_tools

OPTIONS: dict[str, tuple[type, ...]] = {
    "device": (str,),
    "cache_size": (int,),
    "max_num_batched_tokens": (int,),
    "enable_prefix_caching": (bool,),
    "dynamic_split_fuse": (bool,),
    "properties": (dict,),
    "chat_template": (str,),
}
"""`spec.engine.options`: the device (CPU), fields of OpenVINO's SchedulerConfig by their own names (`cache_size`
is in GB, 0 grows as needed), `properties` of the device's plugin, and a chat template in the place of the model's."""


class OpenVINOEngine:
    """Serves a GGUF file or a folder of OpenVINO IR."""

    def __init__(self) -> None:
        self._stepper: Stepper | None = None
        self._guides: GuideChecks | None = None
        self._tickets: dict[str, Ticket] = {}
        self._count = 0
        self._closing = False

    async def load(self, plan: LoadPlan, narrate: Narrate) -> frames.Caps:
        check_options(plan.options, OPTIONS, "OpenVINO")
        narrate("weights_load", model=plan.model)
        pipeline = await asyncio.to_thread(_open, plan)
        if template := plan.options.get("chat_template"):
            _set_template(pipeline.get_tokenizer(), template)
        tokens = plan.max_sequences * plan.max_context_tokens
        size = plan.options.get("cache_size")
        narrate("kv_cache_alloc", tokens=tokens, bytes_total=size * 10**9 if size else None)
        loop = asyncio.get_running_loop()
        self._stepper = Stepper(pipeline, plan.max_sequences, plan.max_context_tokens, loop)
        self._stepper.start()
        self._guides = GuideChecks("rhapsode_worker.engines.openvino_guides", plan.path)
        await self._warm_up(narrate)
        return frames.Caps(
            slots=plan.max_sequences,
            context_tokens=plan.max_context_tokens,
            json_schema=True,
            regex=True,
            grammar=True,
            tools=calls_tools(partial(render, pipeline.get_tokenizer())),
            penalties=True,
            logprobs=True,
        )

    async def generate(self, request: frames.Generate) -> AsyncGenerator[Step, None]:
        assert self._stepper is not None
        self._count += 1
        ticket = self._tickets[request.job_id] = Ticket(request, self._count)
        try:
            await self._check_guide(ticket)
            if self._closing:
                yield Finished("cancelled", 0)
                return
            self._stepper.submit(ticket)
            while True:
                step = await ticket.steps.get()
                if isinstance(step, Exception):
                    raise step
                yield step
                if isinstance(step, Finished):
                    return
        finally:
            self._stepper.cancel(ticket)
            self._tickets.pop(request.job_id, None)

    async def _check_guide(self, ticket: Ticket) -> None:
        if self._guides is not None and (guide := guide_of(ticket.request)):
            await self._guides.check(guide, lambda: ticket.over)

    def abort(self, job_id: str) -> None:
        if self._stepper is not None and (ticket := self._tickets.get(job_id)):
            self._stepper.cancel(ticket)

    def stats(self) -> EngineStats:
        waiting = sum(not ticket.started for ticket in self._tickets.values())
        return EngineStats(active=len(self._tickets) - waiting, queued=waiting)

    async def close(self) -> None:
        self._closing = True
        if self._guides is not None:
            await self._guides.close()
        if self._stepper is not None:
            await asyncio.to_thread(self._stepper.stop)

    async def _warm_up(self, narrate: Narrate) -> None:
        """Generate one token, which pays for what the first request would have to."""
        began = time.monotonic()
        request = frames.Generate(job_id="warm-up", correlation_id="", max_tokens=1, prompt="Hello")
        async for _ in self.generate(request):
            pass
        narrate("warmup", ms=(time.monotonic() - began) * 1000)


def _open(plan: LoadPlan) -> Any:
    """Return the pipeline. Raises LoadError with what OpenVINO says."""
    options = plan.options
    config = genai.SchedulerConfig()
    config.max_num_seqs = plan.max_sequences
    config.enable_prefix_caching = True
    for name in options.keys() - {"device", "properties", "chat_template"}:
        setattr(config, name, options[name])
    try:
        return genai.ContinuousBatchingPipeline(
            plan.path, config, options.get("device", "CPU"), options.get("properties", {})
        )
    except (RuntimeError, TypeError) as exc:
        said = last_words(exc)
        if options.get("properties") or options.get("device", "CPU") != "CPU":
            remedy = "Check spec.engine.options.device and .properties."
        else:
            remedy = "Check that the model is whole and of a kind that OpenVINO GenAI supports."
        raise LoadError("ModelLoadFailed", f"OpenVINO says: {said}", remedy) from exc


def _set_template(tokenizer: Any, template: str) -> None:
    """Give a model another chat template. Raises LoadError if it is none."""
    tokenizer.set_chat_template(template)
    try:
        render(tokenizer, Conversation([{"role": "user", "content": "Hello"}], None))
    except RuntimeError as exc:
        raise LoadError(
            "BadEngineOption",
            f"option 'chat_template' of OpenVINO is no chat template: {last_words(exc)}",
            "Correct spec.engine.options.chat_template, or remove it: then the model's own is used.",
        ) from exc

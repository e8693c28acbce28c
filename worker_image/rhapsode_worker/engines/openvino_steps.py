"""The thread that owns OpenVINO's pipeline. Called by `openvino`, whose other half lives in the event loop.

Between two steps it takes requests in, cancels, and gives texts out. The pipeline would run more requests than
`max_num_seqs` at once, so the line is kept here.
"""

import asyncio
import os
import queue
import sys
import threading
import traceback
from collections import deque
from typing import Any

import openvino_genai as genai

from rhapsode_contract import frames
from rhapsode_contract.guides import guide_of
from rhapsode_worker.composing import Composer, IdDecoder, tell_logprob
from rhapsode_worker.engines import Finished, Prefilled, Step
from rhapsode_worker.engines.openvino_guides import constrain, last_words
from rhapsode_worker.errors import RequestError
from rhapsode_worker.templating import Conversation, conversation_of

_TURNS = 4
"""Turns of the event loop from a step in a queue to its frame in the pipe."""
_PASS_ON_S = 0.005


class Ticket:
    """One request, seen from both threads. `steps` belongs to the event loop, all else to the stepper."""

    def __init__(self, request: frames.Generate, number: int) -> None:
        self.request = request
        self.number = number
        self.steps: asyncio.Queue[Step | Exception] = asyncio.Queue()
        self.started = False
        self.over = False
        self.handle: Any = None
        self.tokens = 0
        self.composer = Composer(request.stop)
        self.decoder: IdDecoder | None = None


class Stepper:
    """Runs `slots` requests at once, the others in order of arrival."""

    def __init__(self, pipeline: Any, slots: int, context_tokens: int, loop: asyncio.AbstractEventLoop) -> None:
        self._pipeline = pipeline
        self._tokenizer = pipeline.get_tokenizer()
        self._ends = _end_tokens(pipeline)
        self._slots = slots
        self._context_tokens = context_tokens
        self._loop = loop
        self._inbox: queue.SimpleQueue[tuple[str, Ticket | None]] = queue.SimpleQueue()
        self._waiting: deque[Ticket] = deque()
        self._active: list[Ticket] = []
        self._ready: list[tuple[Ticket, Step | Exception]] = []
        self._stopping = False
        self._passed_on = threading.Event()
        self._thread = threading.Thread(target=self._run, name="openvino", daemon=True)

    # Called from the event loop

    def start(self) -> None:
        self._thread.start()

    def submit(self, ticket: Ticket) -> None:
        self._inbox.put(("submit", ticket))

    def cancel(self, ticket: Ticket) -> None:
        """Stop a request; harmless if it is over."""
        self._inbox.put(("cancel", ticket))

    def stop(self) -> None:
        """End every request and the thread."""
        self._inbox.put(("stop", None))
        self._thread.join()

    # The thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._take_in()
                self._admit()
                self._hand_out()
                if self._active:
                    self._step()
                    self._hand_out()
        except Exception:  # a pipeline that throws in a step throws in every one that follows
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(os.EX_SOFTWARE)

    def _take_in(self) -> None:
        """Take what arrived; with nothing to do, wait for it."""
        idle = not self._active and not self._waiting
        while True:
            try:
                what, ticket = self._inbox.get(block=idle)
            except queue.Empty:
                return
            idle = False
            if ticket is None:
                self._stopping = True
                for left in [*self._active, *self._waiting]:
                    self._finish(left, "cancelled")
            elif what == "cancel":
                self._finish(ticket, "cancelled")
            elif not ticket.over:  # it may have been cancelled before it came
                self._waiting.append(ticket)

    def _admit(self) -> None:
        """Give free slots to those who wait."""
        while self._waiting and len(self._active) < self._slots:
            ticket = self._waiting.popleft()
            try:
                self._begin(ticket)
            except RequestError as exc:
                self._fail(ticket, exc)

    def _begin(self, ticket: Ticket) -> None:
        ids = self._encode(ticket.request)
        prompt_tokens = ids.shape[1]
        room = self._context_tokens - prompt_tokens
        if room < 1 or prompt_tokens < 1:
            param = "prompt" if ticket.request.messages is None else "messages"
            if prompt_tokens < 1:
                raise RequestError("empty_prompt", "the prompt is empty", "Write something.", param=param)
            why = f"the prompt is {prompt_tokens} tokens, the context {self._context_tokens}"
            raise RequestError("context_length_exceeded", why, "Shorten it.", param=param)
        config = _generation_config(self._pipeline.get_config(), ticket.request, room)
        ticket.handle = self._pipeline.add_request(ticket.number, ids, config)
        ticket.decoder = IdDecoder(self._tokenizer.decode)
        ticket.started = True
        self._active.append(ticket)
        self._ready.append((ticket, Prefilled(prompt_tokens)))

    def _encode(self, request: frames.Generate) -> Any:
        try:
            if request.messages is None:
                return self._tokenizer.encode(request.prompt or "").input_ids
            prompt = render(self._tokenizer, conversation_of(request))
            return self._tokenizer.encode(prompt, add_special_tokens=False).input_ids
        except RuntimeError as exc:
            remedy = "Use 'prompt', or roles that the model's chat template knows."
            raise RequestError("invalid_prompt", last_words(exc), remedy, param="messages") from exc

    def _step(self) -> None:
        self._pipeline.step()
        for ticket in list(self._active):
            self._read(ticket)

    def _read(self, ticket: Ticket) -> None:
        """Take a request's new tokens, and its end."""
        while not ticket.over and ticket.handle.can_read():
            for output in ticket.handle.read().values():
                for token_id, logprob in zip(output.generated_ids, output.generated_log_probs, strict=True):
                    self._hear(ticket, token_id, logprob)
        if ticket.over:
            return
        status = ticket.handle.get_status()
        if status == genai.GenerationStatus.IGNORED:
            why = "there is no room for it in the KV cache"
            self._fail(ticket, RequestError("out_of_kv_cache", why, "Raise cache_size or lower maxSequences."))
        elif status == genai.GenerationStatus.FINISHED:
            self._finish(ticket, "length")

    def _hear(self, ticket: Ticket, token_id: int, logprob: float) -> None:
        if ticket.over:
            return
        if token_id in self._ends:
            self._finish(ticket, "stop")
            return
        assert ticket.decoder is not None
        ticket.tokens += 1
        told = (tell_logprob(logprob),) if ticket.request.logprobs else ()
        if piece := ticket.composer.push(ticket.decoder.push(token_id), 1, told):
            self._ready.append((ticket, piece))
        if ticket.composer.stopped:
            self._finish(ticket, "stop")

    def _finish(self, ticket: Ticket, reason: frames.StopReason) -> None:
        if not ticket.over:
            if reason != "cancelled" and not ticket.composer.stopped and (rest := ticket.composer.flush()):
                self._ready.append((ticket, rest))
            self._end(ticket, Finished(reason, ticket.tokens))

    def _fail(self, ticket: Ticket, exc: RequestError) -> None:
        self._end(ticket, exc)

    def _end(self, ticket: Ticket, last: Step | Exception) -> None:
        ticket.over = True
        if ticket.handle is not None:
            ticket.handle.cancel()
            ticket.handle = None
        if ticket in self._active:
            self._active.remove(ticket)
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        self._ready.append((ticket, last))

    def _hand_out(self) -> None:
        """Give the event loop what is ready, and the time to pass it on.

        The next step would hold the interpreter's lock from its beginning to its end, and what this one made
        would leave a whole step late.
        """
        if self._ready:
            ready, self._ready = self._ready, []
            self._passed_on.clear()
            self._loop.call_soon_threadsafe(self._deliver, ready)
            self._passed_on.wait(_PASS_ON_S)

    def _deliver(self, ready: list[tuple[Ticket, Step | Exception]]) -> None:
        for ticket, step in ready:
            ticket.steps.put_nowait(step)
        self._turn(_TURNS)

    def _turn(self, left: int) -> None:
        if left:
            self._loop.call_soon(self._turn, left - 1)
        else:
            self._passed_on.set()


def render(tokenizer: Any, conversation: Conversation) -> str:
    """Return a conversation as the prompt that the model's chat template makes of it."""
    messages, tools = conversation
    prompt: str = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tools=tools)
    return prompt


def _generation_config(config: Any, request: frames.Generate, room: int) -> Any:
    """Return the model's own settings with what the request asks for."""
    config.max_new_tokens = min(request.max_tokens, room)
    sampling = (request.temperature, request.top_p, request.top_k, request.seed)
    if request.temperature == 0:
        config.do_sample = False
    elif any(wish is not None for wish in sampling):
        config.do_sample = True
        config.temperature = 1.0 if request.temperature is None else request.temperature
        if request.top_p is not None:
            config.top_p = request.top_p
        if request.top_k:
            config.top_k = request.top_k
        if request.seed is not None:
            config.rng_seed = request.seed
    config.presence_penalty = request.presence_penalty or 0.0
    config.frequency_penalty = request.frequency_penalty or 0.0
    config.logprobs = int(request.logprobs)
    if guide := guide_of(request):
        constrain(config, guide)
    return config


def _end_tokens(pipeline: Any) -> frozenset[int]:
    config = pipeline.get_config()
    return frozenset({config.eos_token_id, *config.stop_token_ids}) - {-1}

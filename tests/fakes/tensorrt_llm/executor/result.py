"""A request's answer, with the ways of the real one that an adapter must know.

* Iterating mutates one object and returns it again and again.
* It needs the event loop that ran when the request was made.
* Leaving the iteration aborts nothing; `abort` leads to one last response, `cancelled`.
* Log probabilities come only when asked for: of each new token those of the best, and of the chosen one.
* A stop string ends the answer here; the engine goes on computing.
* An error that is no RequestError means that the executor is gone.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from ..sampling_params import SamplingParams
from ..tokenizing import END, Detokenizer


@dataclass
class TimingMetrics:
    """Moments on a steady clock."""

    arrival_time: timedelta = timedelta()
    first_scheduled_time: timedelta = timedelta()
    first_token_time: timedelta = timedelta()
    last_token_time: timedelta = timedelta()


@dataclass
class RequestPerfMetrics:
    """What the engine measured."""

    timing_metrics: TimingMetrics = field(default_factory=TimingMetrics)


@dataclass
class Logprob:
    """How probable a token was, and which place it had among all."""

    logprob: float
    rank: int | None = None


class Response(NamedTuple):
    """What the executor sends: new tokens, perhaps the end."""

    tokens: list[int]
    finish_reason: str | None = None
    cached_tokens: int = 0
    metrics: RequestPerfMetrics | None = None
    logprobs: list[dict[int, Logprob]] | None = None


@dataclass
class CompletionOutput:
    """One answer so far; what came last is in the `…_diff`."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    request_perf_metrics: RequestPerfMetrics | None = None
    _last_text_len: int = 0
    _last_token_ids_len: int = 0
    _last_logprobs_len: int = 0

    @property
    def length(self) -> int:
        return len(self.token_ids)

    @property
    def text_diff(self) -> str:
        return self.text[self._last_text_len :]

    @property
    def token_ids_diff(self) -> list[int]:
        return self.token_ids[self._last_token_ids_len :]

    @property
    def logprobs_diff(self) -> list[dict[int, Logprob]]:
        return self.logprobs[self._last_logprobs_len :]


class RequestOutput:
    """One request on its way."""

    def __init__(self, executor: Any, request_id: int, prompt: list[int], params: SamplingParams) -> None:
        self.request_id = request_id
        self.prompt_token_ids = prompt
        self.outputs = [CompletionOutput(0)]
        self.cached_tokens = 0
        self.params = params
        self._executor = executor
        self._detokenizer = Detokenizer()
        self._done = self._aborted = False
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
            self._queue: asyncio.Queue[Response | Exception] | None = asyncio.Queue()
        except RuntimeError:
            self._loop = self._queue = None

    @property
    def finished(self) -> bool:
        return self._done

    def abort(self) -> None:
        if self._done:
            logging.getLogger(__name__).warning("request %d is over, it cannot be aborted", self.request_id)
            return
        self._aborted = True
        self._executor.cancel(self.request_id)

    def aborted(self) -> bool:
        return self._aborted

    def put(self, response: Response | Exception) -> None:
        """Called by the executor's thread."""
        if self._loop is not None and self._queue is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, response)

    def __aiter__(self) -> "RequestOutput":
        return self

    async def __anext__(self) -> "RequestOutput":
        if self._done:
            raise StopAsyncIteration
        assert self._queue is not None, "asyncio event loop was not present during initialization"
        response = await self._queue.get()
        if isinstance(response, Exception):
            self._done = True
            raise response
        self._handle(response)
        return self

    def _handle(self, response: Response) -> None:
        said = self.outputs[0]
        said._last_text_len, said._last_token_ids_len = len(said.text), len(said.token_ids)
        said.token_ids += response.tokens
        if response.logprobs is not None:
            said._last_logprobs_len = len(said.logprobs)
            said.logprobs += response.logprobs
        said.text += self._detokenizer.push([token for token in response.tokens if token != END])
        said.request_perf_metrics = response.metrics
        said.finish_reason = response.finish_reason
        self.cached_tokens = response.cached_tokens
        self._done = response.finish_reason is not None
        self._look_for_stops(said)

    def _look_for_stops(self, said: CompletionOutput) -> None:
        stops = [self.params.stop] if isinstance(self.params.stop, str) else self.params.stop or []
        for stop in stops:
            if (at := said.text.find(stop)) >= 0:
                said.text = said.text[:at]
                said.finish_reason, said.stop_reason, self._done = "stop", stop, True
                return

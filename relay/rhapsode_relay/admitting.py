"""Decide whether a request may come in. Called by `conducting`. Pure: raises ApiError or returns."""

import msgspec

from rhapsode_contract import frames
from rhapsode_contract.guides import Guided, guides_of, lacking
from rhapsode_contract.requests import ChatMessage, InferenceRequest
from rhapsode_contract.tools import penalty_of
from rhapsode_relay.errors import BadRequest, NotFound, Unavailable
from rhapsode_relay.jobs import Job
from rhapsode_relay.queueing import Line
from rhapsode_relay.worker_state import WorkerState


def check_request(request: InferenceRequest, model: str, worker: WorkerState) -> None:
    """Refuse what this worker could never do."""
    if request.model is not None and request.model != model:
        raise NotFound(
            f"model {request.model!r} is not served here; this worker serves {model!r}",
            code="model_not_found",
            param="model",
        )
    if (request.prompt is None) == (request.messages is None):
        raise BadRequest("give either 'prompt' or 'messages'", param="prompt")
    if len(guides := guides_of(request)) > 1:
        raise BadRequest("give one of 'json_schema', 'regex' and 'grammar' at most", param=guides[1].kind)
    _check_messages(request)
    if worker.ready:  # what an engine can is known when it has loaded
        check_wishes(request, worker)


def check_wishes(request: InferenceRequest | frames.Generate, worker: WorkerState) -> None:
    """Refuse what the worker's engine cannot do. Called again when an engine is ready."""
    check_guide(request, worker)
    if request.tools and not worker.caps.tools:
        message = f"engine {worker.engine} can call no tools with this model: its chat template has none"
        raise BadRequest(message, code="unsupported", param="tools")
    if not worker.caps.tools and any(one.tool_calls for one in request.messages or ()):
        message = f"engine {worker.engine} can tell this model of no calls of tools: its chat template has none"
        raise BadRequest(message, code="unsupported", param="messages")
    if not worker.caps.penalties and (penalty := penalty_of(request)):
        raise BadRequest(f"engine {worker.engine} takes no {penalty} here", code="unsupported", param=penalty)
    if request.logprobs and not worker.caps.logprobs:
        message = f"engine {worker.engine} does not tell how probable its tokens are"
        raise BadRequest(message, code="unsupported", param="logprobs")


def check_guide(request: Guided, worker: WorkerState) -> None:
    """Refuse to promise what the worker's engine does not keep to."""
    if guide := lacking(worker.caps, request):
        raise BadRequest(
            f"engine {worker.engine} keeps to no {guide.words} here", code="unsupported", param=guide.kind
        )


def check_worker(worker: WorkerState, *, draining: bool) -> None:
    """Refuse what this worker will not take."""
    if draining or worker.phase == "draining":
        raise Unavailable("this worker is draining; ask again", code="draining", retry_after_s=5)
    if worker.phase == "failed":
        message = worker.message or "the worker cannot load its model"
        raise Unavailable(message, code="worker_failed", retry_after_s=30)


def check_capacity(worker: WorkerState, line: Line, *, draining: bool) -> None:
    """Refuse what this worker cannot take now."""
    check_worker(worker, draining=draining)
    if not line.has_room:
        raise Unavailable(
            f"{line.waiting} requests are waiting, which is the limit",
            code="queue_full",
            retry_after_s=line.retry_after_s(),
        )


def build_command(job: Job, request: InferenceRequest) -> frames.Generate:
    """Return what the worker is told to do."""
    messages = None if request.messages is None else [_message(one) for one in request.messages]
    return frames.Generate(
        job_id=job.id,
        correlation_id=job.terms.correlation_id,
        max_tokens=request.max_tokens,
        prompt=request.prompt,
        messages=messages,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        seed=request.seed,
        logprobs=request.logprobs,
        stop=request.stops(),
        json_schema=request.json_schema,
        regex=request.regex,
        grammar=request.grammar,
        tools=request.tools,
        meta=msgspec.to_builtins(job.terms),
    )


def _check_messages(request: InferenceRequest) -> None:
    if request.tools and request.messages is None:
        raise BadRequest("'tools' are for 'messages'; a prompt is taken as it is", param="tools")
    if any(one.content is None and not one.tool_calls for one in request.messages or ()):
        raise BadRequest("a message without content must have 'tool_calls'", param="messages")


def _message(message: ChatMessage) -> frames.Message:
    return frames.Message(
        role=message.role,
        content=message.text(),
        tool_calls=message.tool_calls,
        tool_call_id=message.tool_call_id,
        name=message.name,
    )

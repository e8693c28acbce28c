"""Decide whether a request may come in. Called by `conducting`. Pure: raises ApiError or returns."""

import msgspec

from rhapsode_contract import frames
from rhapsode_contract.requests import InferenceRequest
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
    if request.json_schema is not None and worker.engine and not worker.caps.json_schema:
        raise BadRequest(f"engine {worker.engine} has no JSON-schema output", code="unsupported", param="json_schema")


def check_capacity(worker: WorkerState, line: Line, *, draining: bool) -> None:
    """Refuse what this worker cannot take now."""
    if draining or worker.phase == "draining":
        raise Unavailable("this worker is draining; ask again", code="draining", retry_after_s=5)
    if worker.phase == "failed":
        message = worker.message or "the worker cannot load its model"
        raise Unavailable(message, code="worker_failed", retry_after_s=30)
    if not line.has_room:
        raise Unavailable(
            f"{line.waiting} requests are waiting, which is the limit",
            code="queue_full",
            retry_after_s=line.retry_after_s(),
        )


def build_command(job: Job, request: InferenceRequest) -> frames.Generate:
    """Return what the worker is told to do."""
    messages = None
    if request.messages is not None:
        messages = [frames.Message(role=one.role, content=one.text()) for one in request.messages]
    return frames.Generate(
        job_id=job.id,
        correlation_id=job.terms.correlation_id,
        max_tokens=request.max_tokens,
        prompt=request.prompt,
        messages=messages,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        stop=request.stops(),
        json_schema=request.json_schema,
        meta=msgspec.to_builtins(job.terms),
    )

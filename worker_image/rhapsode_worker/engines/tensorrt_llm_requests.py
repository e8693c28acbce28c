"""One request in TensorRT-LLM's terms: its prompt as tokens, its wishes, what was measured. For `tensorrt_llm`."""

from datetime import timedelta
from typing import Any

from rhapsode_contract import frames
from rhapsode_contract.guides import guide_of
from rhapsode_contract.tools import penalty_of
from rhapsode_worker.composing import tell_logprob
from rhapsode_worker.engines import Measured
from rhapsode_worker.engines.tensorrt_llm_guides import in_its_words
from rhapsode_worker.engines.tensorrt_llm_importing import Package
from rhapsode_worker.errors import RequestError
from rhapsode_worker.templating import Conversation, conversation_of


def encode(tokenizer: Any, request: frames.Generate) -> list[int]:
    """Return the prompt's tokens; messages go through the model's own chat template. Raises RequestError."""
    if request.messages is None:
        return list(tokenizer.encode(request.prompt or ""))
    try:
        text = render(tokenizer, conversation_of(request))
    except Exception as exc:  # a template is the model's own program
        remedy = "Use 'prompt', or roles that the model's chat template knows."
        raise RequestError("invalid_prompt", _line(exc), remedy, param="messages") from exc
    return list(tokenizer.encode(text, add_special_tokens=False))


def render(tokenizer: Any, conversation: Conversation) -> str:
    """Return a conversation as the prompt that the model's chat template makes of it."""
    messages, tools = conversation
    text: str = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)
    return text


def room_after(prompt_tokens: int, context_tokens: int, request: frames.Generate) -> int:
    """Return how many tokens the answer may have. Raises RequestError if that is none."""
    param = "prompt" if request.messages is None else "messages"
    if prompt_tokens < 1:
        raise RequestError("empty_prompt", "the prompt is empty", "Write something.", param=param)
    if prompt_tokens >= context_tokens:
        why = f"the prompt is {prompt_tokens} tokens, the context {context_tokens}"
        raise RequestError("context_length_exceeded", why, "Shorten it.", param=param)
    return min(request.max_tokens, context_tokens - prompt_tokens)


def sampling(package: Package, request: frames.Generate, max_tokens: int) -> Any:
    """Return the settings of one request; the engine changes them, so each has its own.

    Stop strings are not among them: the engine would match them on text that is already said.
    """
    wishes: dict[str, Any] = {"max_tokens": max_tokens, "return_perf_metrics": True}
    if penalty_of(request):
        wishes["presence_penalty"] = request.presence_penalty or 0.0
        wishes["frequency_penalty"] = request.frequency_penalty or 0.0
    if request.temperature == 0:
        wishes["top_k"] = 1  # every version takes this for greedy
    else:
        told = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k or None}
        wishes |= {name: value for name, value in told.items() if value is not None}
        if request.seed is not None:
            wishes["seed"] = request.seed
    if request.logprobs:
        wishes["logprobs"] = 1  # 0 would do, but is nothing to some versions
    if guide := guide_of(request):
        wishes["guided_decoding"] = package.guided_decoding_params(**in_its_words(guide))
    return package.sampling_params(**wishes)


def logprobs_of(said: Any) -> tuple[float, ...]:
    """Return the log probability of each new token. Raises RequestError where the chosen one is left out."""
    found = zip(said.token_ids_diff, said.logprobs_diff, strict=True)
    try:
        return tuple(tell_logprob(known[token_id].logprob) for token_id, known in found)
    except (KeyError, ValueError) as exc:
        why = "TensorRT-LLM did not tell the probability of the token it chose"
        raise RequestError("engine_refused", why, "Leave 'logprobs' out.", param="logprobs") from exc


def measured(output: Any) -> Measured | None:
    """Return what the engine measured of a request, as far as this version tells it."""
    metrics = getattr(output.outputs[0], "request_perf_metrics", None)
    timing = getattr(metrics, "timing_metrics", None)
    arrival = getattr(timing, "arrival_time", None)
    queue_ms = _between(arrival, getattr(timing, "first_scheduled_time", None))
    first_ms = _between(arrival, getattr(timing, "first_token_time", None))
    found = Measured(queue_ms, first_ms, cached_tokens(output))
    return None if found == Measured() else found


def cached_tokens(output: Any) -> int | None:
    """Return how much of the prompt was in the cache. None: nothing, or a version that always says 0."""
    return getattr(output, "cached_tokens", None) or None


def refused(exc: Exception, request: frames.Generate) -> RequestError:
    """Return the engine's refusal of one request."""
    if guide := guide_of(request):
        remedy = f"Correct or simplify the {guide.words}, or leave it out."
        return RequestError(f"invalid_{guide.kind}", f"TensorRT-LLM says: {_line(exc)}", remedy, param=guide.kind)
    return RequestError("engine_refused", f"TensorRT-LLM says: {_line(exc)}", "Change the request.")


def _between(begin: Any, end: Any) -> float | None:
    if isinstance(begin, timedelta) and isinstance(end, timedelta) and end >= begin:
        return (end - begin).total_seconds() * 1000
    return None


def _line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]

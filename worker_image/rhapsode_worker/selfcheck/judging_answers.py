"""Whether an answer is as it should be. Called by `asking` with the frames of requests that are over. Pure."""

import json
import re
from collections.abc import Sequence
from typing import Any

from rhapsode_contract import frames
from rhapsode_contract.wording import UNITS
from rhapsode_worker.joining import text_in, tokens_in
from rhapsode_worker.selfcheck.findings import Finding, failure

Heard = Sequence[tuple[float, frames.WorkerFrame]]
AT_ONCE = 0.03
"""Share of an answer's time below which the time from its first to its last token is none."""
FEW = 8
"""Tokens below which nothing can be said of streaming."""
MOODS, COUNTS = ("calm", "glad"), (1, 2, 3)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "mood": {"type": "string", "enum": list(MOODS)},
        "count": {"type": "integer", "enum": list(COUNTS)},
    },
    "required": ["mood", "count"],
    "additionalProperties": False,
}
"""A schema with an end: even random weights come to it."""
REGEX = r"(calm|glad) [1-3]{2}"
GRAMMAR, ALLOWED = 'root ::= "calm" " 12" | "glad" " 31"\n', r"calm 12|glad 31"
"""A grammar, and the answers that it allows."""
_TELL_US = "Tell us in an issue."


def judge_order(heard: Heard, finish: frames.Finish, max_tokens: int) -> str:
    """Return what is wrong with the order and the numbers of an answer's frames; nothing if all is well."""
    told = [frame for _, frame in heard]
    tokens = [frame for frame in told if isinstance(frame, frames.Token)]
    prefills = [at for at, frame in enumerate(told) if isinstance(frame, frames.Prefill)]
    if len(prefills) != 1 or any(isinstance(frame, frames.Token) for frame in told[: prefills[0]]):
        return "the engine did not tell once, and before any text, that it took the prompt"
    expected = 0
    for frame in tokens:
        if frame.i != expected:
            return f"token {expected} was to come, and token {frame.i} came"
        expected += tokens_in(frame)
    if expected > finish.tokens_out:
        return f"{expected} tokens came, and the engine counted {finish.tokens_out}"
    if finish.tokens_out > max_tokens:
        return f"{finish.tokens_out} tokens came, {max_tokens} were allowed"
    return "" if finish.prompt_tokens > 0 else "the prompt has no tokens"


def judge_stream(heard: Heard, finish: frames.Finish, max_tokens: int) -> Finding:
    """Return whether an answer came token by token while it was computed."""
    if wrong := judge_order(heard, finish, max_tokens):
        return failure(wrong, _TELL_US)
    pieces = sum(isinstance(frame, frames.Token) for _, frame in heard)
    rate = (finish.tokens_out - 1) / finish.decode_time_ms * 1000 if finish.decode_time_ms else None
    facts = {
        "prompt_tokens": finish.prompt_tokens, "tokens": finish.tokens_out, "pieces": pieces,
        "ttft_ms": finish.ttft_ms, "decode_ms": finish.decode_time_ms,
        "tokens_per_s": None if rate is None else round(rate, 2),
    }  # fmt: skip
    words = f"{finish.tokens_out} tokens in {pieces} pieces, the first after {UNITS['ms'](finish.ttft_ms)}"
    if finish.tokens_out < FEW:
        remedy = "Give a --manifest whose model says more."
        return Finding(outcome="warning", measured=f"{words}: too few to tell", remedy=remedy, facts=facts)
    if pieces < 2 or finish.decode_time_ms < AT_ONCE * (finish.ttft_ms + finish.decode_time_ms):
        return failure(f"{words}, and all of them at once: they were computed before the first was told",
                       _TELL_US, facts=facts)  # fmt: skip
    return Finding(measured=f"{words}, then {UNITS['rate'](rate)} a second", facts=facts)


def judge_schema(heard: Heard, finish: frames.Finish) -> Finding:
    """Return whether an answer keeps to `SCHEMA`."""
    text = text_of(heard)
    shown = text if len(text) <= 120 else f"{text[:119]}…"
    if finish.stop_reason == "length":
        return failure(f"the answer is cut after {finish.tokens_out} tokens: {shown!r}", "Raise maxContextTokens.")
    try:
        said = json.loads(text)
    except ValueError:
        return failure(f"the answer is no JSON: {shown!r}", _TELL_US)
    fits = isinstance(said, dict) and said.keys() == {"mood", "count"}
    if not fits or said["mood"] not in MOODS or said["count"] not in COUNTS or isinstance(said["count"], bool):
        return failure(f"the answer does not keep to the schema: {shown!r}", _TELL_US)
    return Finding(measured=f"{finish.tokens_out} tokens that keep to the schema: {json.dumps(said)}")


def judge_match(heard: Heard, finish: frames.Finish, pattern: str, guide: str) -> Finding:
    """Return whether an answer is one that a guide allows."""
    text = text_of(heard)
    if re.fullmatch(pattern, text):
        return Finding(measured=f"{finish.tokens_out} tokens that keep to the {guide}: {text!r}")
    shown = text if len(text) <= 120 else f"{text[:119]}…"
    return failure(f"the answer does not keep to the {guide}: {shown!r}", _TELL_US)


def judge_pair(one: Heard, other: Heard, ends: tuple[frames.Finish, frames.Finish], max_tokens: int) -> Finding:
    """Return whether two requests ran at the same time, and each got its own."""
    for heard, finish in ((one, ends[0]), (other, ends[1])):
        if wrong := judge_order(heard, finish, max_tokens):
            return failure(wrong, _TELL_US)
    tokens = ends[0].tokens_out + ends[1].tokens_out
    if not (_first(one) <= _last(other) and _first(other) <= _last(one)):
        remedy = "Look whether maxSequences is more than 1, and whether the answers are long enough."
        return Finding(outcome="warning", measured="two requests ran one after the other", remedy=remedy)
    return Finding(measured=f"two requests ran beside each other, {tokens} tokens together", facts={"tokens": tokens})


def text_of(heard: Heard) -> str:
    """Return the text of an answer."""
    return "".join(text_in(frame) for _, frame in heard if isinstance(frame, frames.Token))


def _first(heard: Heard) -> float:
    return next((at for at, frame in heard if isinstance(frame, frames.Token)), heard[-1][0])


def _last(heard: Heard) -> float:
    return heard[-1][0]

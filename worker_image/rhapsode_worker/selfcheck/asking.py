"""Ask a loaded engine what a worker would ask it, and look at the answers. Called by `checking`."""

import asyncio
import itertools
import time
from typing import Any

from rhapsode_contract import frames
from rhapsode_contract.wording import UNITS
from rhapsode_worker.selfcheck.findings import Finding, failure, not_checked
from rhapsode_worker.selfcheck.judging_answers import (
    ALLOWED,
    GRAMMAR,
    REGEX,
    SCHEMA,
    judge_match,
    judge_order,
    judge_pair,
    judge_schema,
    judge_stream,
    text_of,
)
from rhapsode_worker.selfcheck.running_engine import Asked, EngineRun

PROMPT = "Once upon a time there was a rhapsode who walked from city to city, and"
_MOOD = "How does the singer feel, and how often? "
OTHER_PROMPT = "The sea was calm that night, and the singer on the shore"
TOKENS = 64
LONG_TOKENS = 1000
"""Of an answer that is to be cancelled …"""
SCHEMA_TOKENS = 400
"""… and of one that keeps to a guide: spaces in JSON are free."""
CANCEL_S = 10.0
"""How long an engine may take to stop a request."""
_TRIES = 3


class Questions:
    """The requests of one check. Their answers are sampled: what is greedy may be one byte for ever."""

    def __init__(self, engine: EngineRun) -> None:
        self._engine = engine
        self._count = itertools.count(1)

    async def stream(self) -> Finding:
        """Is an answer told while it is computed?"""
        asked = self._ask(TOKENS, prompt=PROMPT)
        return judge_stream(asked.heard, await self._engine.answer(asked), asked.max_tokens)

    async def chat(self) -> Finding:
        """Do messages go through the model's chat template?"""
        messages = [frames.Message(role="user", content="Say hello to the singer.")]
        asked = self._ask(16, messages=messages)
        finish = await self._engine.answer(asked)
        if wrong := judge_order(asked.heard, finish, asked.max_tokens):
            return failure(wrong, "Tell us in an issue.")
        words = f"{finish.tokens_out} tokens to a prompt of {finish.prompt_tokens} through the chat template"
        return Finding(measured=words, facts={"prompt_tokens": finish.prompt_tokens, "tokens": finish.tokens_out})

    async def abort(self) -> Finding:
        """Does a request that is cancelled end soon, and does another one run after it?"""
        for _ in range(_TRIES):
            asked = self._ask(LONG_TOKENS, prompt=PROMPT)
            await self._engine.first_word(asked)
            if asked.ended.done():
                await self._engine.answer(asked)
                continue
            began = time.monotonic()
            self._engine.cancel(asked)
            try:
                finish = await asyncio.wait_for(self._engine.answer(asked), CANCEL_S)
            except TimeoutError:
                remedy = "Tell us in an issue: who leaves would hold the GPU."
                return failure(f"a cancelled request went on for {CANCEL_S:g} s", remedy)
            if finish.stop_reason == "cancelled":
                return await self._after_abort(asked, finish, time.monotonic() - began)
        remedy = "Give a --manifest whose model says more."
        return Finding(outcome="warning", measured="every answer ended before it could be cancelled", remedy=remedy)

    async def schema(self) -> Finding:
        """Is a JSON schema enforced?"""
        if not self._engine.caps.json_schema:
            return not_checked("this engine, as it is set up, enforces no JSON schema")
        asked = self._ask(SCHEMA_TOKENS, prompt=_MOOD, json_schema=SCHEMA)
        return judge_schema(asked.heard, await self._engine.answer(asked))

    async def regex(self) -> Finding:
        """Is a regular expression enforced?"""
        if not self._engine.caps.regex:
            return not_checked("this engine, as it is set up, enforces no regular expression")
        asked = self._ask(SCHEMA_TOKENS, prompt=_MOOD, regex=REGEX)
        return judge_match(asked.heard, await self._engine.answer(asked), REGEX, "regular expression")

    async def grammar(self) -> Finding:
        """Is a grammar enforced?"""
        if not self._engine.caps.grammar:
            return not_checked("this engine, as it is set up, enforces no grammar")
        asked = self._ask(SCHEMA_TOKENS, prompt=_MOOD, grammar=GRAMMAR)
        return judge_match(asked.heard, await self._engine.answer(asked), ALLOWED, "grammar")

    async def pair(self) -> Finding:
        """Do two requests run beside each other?"""
        if self._engine.caps.slots < 2:
            return not_checked("maxSequences is 1: requests run one after the other")
        requests = (self._request(TOKENS, prompt=prompt) for prompt in (PROMPT, OTHER_PROMPT))
        one, other = self._engine.ask(*requests)
        ends = await self._engine.answer(one), await self._engine.answer(other)
        return judge_pair(one.heard, other.heard, ends, TOKENS)

    async def _after_abort(self, asked: Asked, finish: frames.Finish, seconds: float) -> Finding:
        next_one = self._ask(8, prompt=PROMPT)
        ended = await self._engine.answer(next_one)
        if wrong := judge_order(next_one.heard, ended, next_one.max_tokens):
            return failure(f"after a cancelled request {wrong}", "Tell us in an issue.")
        said = len(text_of(asked.heard))
        words = f"ended {UNITS['ms'](seconds * 1000)} after it was cancelled, {said} characters in; the next one ran"
        return Finding(measured=words, facts={"ms": round(seconds * 1000, 1), "tokens": finish.tokens_out})

    def _ask(self, max_tokens: int, **wishes: Any) -> Asked:
        return self._engine.ask(self._request(max_tokens, **wishes))[0]

    def _request(self, max_tokens: int, **wishes: Any) -> frames.Generate:
        """Return a request for so many tokens, or half of the context if that is less."""
        number, context = next(self._count), self._engine.caps.context_tokens
        return frames.Generate(
            job_id=f"selfcheck-{number}",
            max_tokens=min(max_tokens, max(1, context // 2)) if context else max_tokens,
            correlation_id="selfcheck",
            temperature=1.0,
            seed=number,
            **wishes,
        )

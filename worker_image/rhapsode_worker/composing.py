"""Compose tokens into texts that may be streamed: whole characters, and nothing of a stop string. Pure.

A text is given out only when nothing of it may still turn out to be the beginning of a stop string, and then it
covers whole tokens; so the counts of all texts together never exceed the tokens that were generated.
"""

import codecs
from collections.abc import Callable, Sequence
from typing import NamedTuple

LOWEST = -9999.0
"""What stands for the logarithm of no probability at all: JSON has no infinity. OpenAI's number."""


class Piece(NamedTuple):
    """Text of so many tokens. Never empty. `logprobs`, where they are asked for, has one for each token."""

    text: str
    tokens: int = 1
    logprobs: tuple[float, ...] = ()


class Composer:
    """Holds back what may not be streamed yet. `stopped` says that a stop string was met: take no more."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self._tokens = 0
        self._logprobs: tuple[float, ...] = ()
        self.stopped = False

    def push(self, text: str, tokens: int = 1, logprobs: tuple[float, ...] = ()) -> Piece | None:
        """Take the text of new tokens, which may be empty; return what may be streamed."""
        self._held += text
        self._tokens += tokens
        if logprobs:
            self._logprobs += logprobs
        if found := [at for stop in self._stops if (at := self._held.find(stop)) >= 0]:
            self.stopped = True
            self._held = self._held[: min(found)]
            return self.flush()
        return None if self._may_stop() else self.flush()

    def flush(self) -> Piece | None:
        """Return what is held back; at the end it was no stop string after all."""
        if not self._held:
            return None
        piece = Piece(self._held, self._tokens, self._logprobs)
        self._held, self._tokens, self._logprobs = "", 0, ()
        return piece

    def _may_stop(self) -> bool:
        return any(self._held.endswith(stop[:size]) for stop in self._stops for size in range(1, len(stop)))


def tell_logprob(value: float) -> float:
    """Return a log probability as it can be told: a number, and never above 0, whatever rounding made of it."""
    return min(value, 0.0) if value > LOWEST else LOWEST


class ByteDecoder:
    """Makes text of tokens that are bytes: a character may be split across them."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: bytes) -> str:
        return self._decoder.decode(token)


class IdDecoder:
    """Makes text of token ids with a tokenizer that can only decode whole lists of them.

    It decodes a window that begins at the last text boundary, with one boundary before it as context, since
    what a token looks like may depend on its neighbours. A tokenizer shows half a character as nothing or as
    U+FFFD; both wait for the next token.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._context = 0
        self._shown = ""

    def push(self, token_id: int) -> str:
        """Take one token; return the text that it completes, or nothing."""
        self._ids.append(token_id)
        text = self._decode(self._ids)
        if len(text) <= len(self._shown) or text.endswith("\ufffd"):
            return ""
        new = text[len(self._shown) :]
        self._ids = self._ids[self._context :]
        self._context = len(self._ids)
        self._shown = self._decode(self._ids)
        return new

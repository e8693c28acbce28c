"""How probable tokens were, as OpenAI's chats and texts tell it, in streams and whole. Made by `routes`. Pure.

Entries stand for tokens. A text that several tokens make only together is the last one's, and the others' are empty,
so that the entries' texts are always the whole text.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rhapsode_contract import events, openai
from rhapsode_relay.dialects.splitting import split_events
from rhapsode_relay.openai.chunking import CHAT, Chunks, Shape, Wishes
from rhapsode_relay.quoting import quote


class Probable(NamedTuple):
    """One token: its text, its log probability, and where its text begins in the answer."""

    text: str
    logprob: float
    offset: int


def read_probable(token: events.Token, offset: int) -> list[Probable]:
    """Return the tokens of an event whose text begins at `offset`."""
    last = len(token.logprobs) - 1
    return [Probable(token.t if at == last else "", value, offset) for at, value in enumerate(token.logprobs)]


def in_chat(tokens: Sequence[Probable]) -> openai.ChatLogprobs:
    """Return tokens as a conversation's answer tells them."""
    return openai.ChatLogprobs(
        content=[
            openai.TokenLogprob(token=one.text, logprob=one.logprob, bytes=list(one.text.encode())) for one in tokens
        ]
    )


def in_text(tokens: Sequence[Probable]) -> openai.TextLogprobs:
    """Return tokens as a text tells them."""
    return openai.TextLogprobs(
        tokens=[one.text for one in tokens],
        token_logprobs=[one.logprob for one in tokens],
        text_offset=[one.offset for one in tokens],
    )


class ProbableChunks(Chunks):
    """A stream whose chunks of text say how probable their tokens were."""

    def __init__(self, shape: Shape, job_id: str, created: int, model: str, wishes: Wishes) -> None:
        super().__init__(shape, job_id, created, model, wishes)
        self._chars = 0

    def tell(self, event: events.StreamEvent) -> bytes:
        if isinstance(event, events.Token):
            tokens = read_probable(event, self._chars)
            self._chars += len(event.t)
            return self._flow(event.t, quote(in_chat(tokens) if self._shape is CHAT else in_text(tokens)))
        if isinstance(event, events.Snapshot):  # which knows of no probabilities
            self._chars = len(event.text)
        return super().tell(event)


class Gathering:
    """What is heard of a stream for an answer that comes whole."""

    def __init__(self) -> None:
        self.tokens: list[Probable] = []
        self.is_whole = True
        """Whether all tokens were heard: a long answer that is asked for again may have lost its first."""
        self._chars = 0

    def hear(self, chunk: bytes) -> None:
        for event in split_events(chunk):
            if isinstance(event, events.Token):
                self.tokens += read_probable(event, self._chars)
                self._chars += len(event.t)
            elif isinstance(event, events.Snapshot) and event.text:
                self.is_whole = False

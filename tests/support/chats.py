"""A client of OpenAI's endpoints that takes the wire's rules at their word: what breaks one fails the test."""

import json
from typing import Any, NamedTuple

import httpx
import msgspec

from rhapsode_contract.openai import ChatChunk, CompletionChunk
from support.processes import Relay
from support.streams import Stream

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "hello"}]
Chunk = dict[str, Any]


class Told(NamedTuple):
    """What a stream said."""

    chunks: list[Chunk]
    comments: list[str]
    error: dict[str, Any] | None
    done: bool

    @property
    def text(self) -> str:
        return "".join(_text_of(choice) for chunk in self.chunks for choice in chunk["choices"])

    @property
    def narrations(self) -> list[dict[str, Any]]:
        return [chunk["narration"] for chunk in self.chunks if "narration" in chunk]

    @property
    def finish_reason(self) -> str | None:
        return next((why for chunk in self.chunks for one in chunk["choices"] if (why := one["finish_reason"])), None)


def read(raw: bytes) -> Told:
    """Return what a stream of unnamed events said: one line of data or of a comment each, the last one `[DONE]`."""
    text = raw.decode()
    assert text.endswith("\n\n") or not text, "the last event has its blank line"
    told = Told([], [], None, False)
    for block in text.removesuffix("\n\n").split("\n\n") if text else []:
        assert len(block.splitlines()) == 1, block
        assert not told.done, f"after [DONE]: {block}"
        if block.startswith(": "):
            told.comments.append(block[2:])
        else:
            assert block.startswith("data: "), block
            told = _take(told, block.removeprefix("data: "))
    return told


def _take(told: Told, data: str) -> Told:
    if data == "[DONE]":
        return told._replace(done=True)
    said = json.loads(data)
    if "error" in said:
        assert said.keys() == {"error"}
        assert said["error"].keys() == {"message", "type", "code", "param"}
        return told._replace(error=said["error"])
    assert told.error is None
    check_chunk(said)
    told.chunks.append(said)
    return told


def check_chunk(said: Chunk) -> None:
    """A chunk is what the contract says, with one choice, or with usage and none."""
    kind = ChatChunk if said["object"] == "chat.completion.chunk" else CompletionChunk
    msgspec.convert(said, kind)
    known = {"id", "object", "created", "model", "choices", "usage", "narration", "event"}
    assert said.keys() <= known
    assert len(said["choices"]) == (0 if said.get("usage") else 1)


def _text_of(choice: Chunk) -> str:
    return str(choice["text"] if "text" in choice else choice["delta"].get("content") or "")


def chat(
    port: int,
    *,
    path: str = CHAT,
    headers: dict[str, str] | None = None,
    buffer: int | None = None,
    later: bool = False,
    **wishes: Any,
) -> Stream:
    """Ask for a streamed answer; `buffer` is what the client's kernel takes of it unasked.

    Without narration the answer begins with the model's: who serves it next, itself, reads it `later`.
    """
    body = ({"prompt": "hello"} if path == TEXT else {"messages": HELLO}) | {"stream": True} | wishes
    return Stream(port, path, method="POST", body=body, headers=headers, receive_buffer=buffer, later=later)


def finish(stream: Stream) -> Told:
    """Return all that a stream says."""
    while not stream.ended and stream.read_some():
        pass
    return read(stream.raw)


def until(stream: Stream, part: bytes) -> bytes:
    """Read until something was said."""
    while part not in stream.raw:
        assert stream.read_some(), f"it ended before {part!r}: {stream.raw[-300:]!r}"
    return stream.raw


def ask_whole(relay: Relay, path: str = CHAT, headers: dict[str, str] | None = None, **wishes: Any) -> httpx.Response:
    """Ask for an answer that comes when all of it is there."""
    question = {"prompt": "hello"} if path == TEXT else {"messages": HELLO}
    return httpx.post(relay.url + path, json=question | wishes, headers=headers, timeout=60)

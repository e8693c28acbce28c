"""Clients of the UI protocols that are as strict as the oldest and the newest of the real ones."""

import json
from typing import Any

from support.streams import Stream

AGUI, CHAT = "/v1/agui", "/v1/vercel/chat"
Said = dict[str, Any]
_CHUNK_FIELDS: dict[str, set[str]] = {
    "start": {"messageId", "messageMetadata"},
    "start-step": set(),
    "text-start": {"id"},
    "text-delta": {"id", "delta"},
    "text-end": {"id"},
    "finish-step": set(),
    "finish": {"messageMetadata"},
    "error": {"errorText"},
    "abort": set(),
}
"""What the oldest client knows; it refuses all else."""


def run_agent(port: int, *messages: Said, headers: dict[str, str] | None = None, **more: Any) -> Stream:
    """Ask as AG-UI's `HttpAgent` does; `props` are what the application forwards."""
    told = list(messages) or [{"id": "m-1", "role": "user", "content": "hello"}]
    props = more.pop("props", {})
    body = {"threadId": "thread-1", "runId": "run-1", "state": {}, "messages": told, "tools": [], "context": []}
    return Stream(port, AGUI, method="POST", body=body | {"forwardedProps": props} | more, headers=headers)


def chat(port: int, *messages: Said, headers: dict[str, str] | None = None, **more: Any) -> Stream:
    """Ask as `useChat` does."""
    told = list(messages) or [message("hello")]
    body = {"id": "chat-1", "messages": told, "trigger": "submit-message"}
    return Stream(port, CHAT, method="POST", body=body | more, headers=headers)


def message(text: str, role: str = "user", **more: Any) -> Said:
    """Return a message as a page of `useChat` keeps it."""
    return {"id": "u-1", "role": role, "parts": [{"type": "text", "text": text}]} | more


def said_in(raw: bytes) -> list[Said]:
    """Return what a stream of bare data said so far; `[DONE]` as a type of its own."""
    *blocks, _rest = raw.split(b"\n\n")
    said: list[Said] = []
    for block in blocks:
        assert len(block.decode().splitlines()) == 1, "some clients end a line wherever Python does"
        if block.startswith(b":"):
            continue
        assert block.startswith(b"data: "), block
        data = block.removeprefix(b"data: ").decode()
        said.append({"type": "[DONE]"} if data == "[DONE]" else json.loads(data))
    return said


def until(stream: Stream, kind: str, count: int = 1, **fields: Any) -> list[Said]:
    """Read until so many of a kind were said; return all that was said so far."""
    while True:
        said = said_in(stream.raw)
        found = [one for one in said if one["type"] == kind and fields.items() <= one.items()]
        if len(found) >= count:
            return said
        assert not stream.ended, f"it ended before {kind}: {stream.raw[-300:]!r}"
        assert stream.read_some(), f"it broke before {kind}: {stream.raw[-300:]!r}"


def rest(stream: Stream) -> list[Said]:
    """Read to the proper end; return all that was said."""
    while not stream.ended:
        assert stream.read_some(), f"it broke: {stream.raw[-300:]!r}"
    return said_in(stream.raw)


def kinds_of(said: list[Said]) -> list[str]:
    """Return the types, with what custom ones are about; the same ones in a row count once."""
    kinds = [":".join(str(one[key]) for key in ("type", "name", "stepName") if key in one) for one in said]
    return [kind for at, kind in enumerate(kinds) if at == 0 or kind != kinds[at - 1]]


def text_of(said: list[Said]) -> str:
    return "".join(one["delta"] for one in said if "delta" in one)


def of_kind(said: list[Said], kind: str) -> list[Said]:
    """Return those of a type, or custom ones of a name."""
    return [one for one in said if kind in (one["type"], one.get("name"))]


def verify_run(said: list[Said]) -> None:
    """Fail where AG-UI's client refuses an order of events."""
    assert said[0]["type"] == "RUN_STARTED"
    assert said[-1]["type"] in ("RUN_FINISHED", "RUN_ERROR")
    open_steps: set[str] = set()
    open_messages: set[str] = set()
    for one in said[1:-1]:
        assert one["type"] not in ("RUN_STARTED", "RUN_FINISHED", "RUN_ERROR")
        if one["type"] == "STEP_STARTED":
            assert one["stepName"] not in open_steps
            open_steps.add(one["stepName"])
        elif one["type"] == "STEP_FINISHED":
            open_steps.remove(one["stepName"])
        elif one["type"] == "TEXT_MESSAGE_START":
            assert one["role"] == "assistant"
            assert one["messageId"] not in open_messages
            open_messages.add(one["messageId"])
        elif one["type"] == "TEXT_MESSAGE_END":
            open_messages.remove(one["messageId"])
        elif one["type"] == "TEXT_MESSAGE_CONTENT":
            assert one["messageId"] in open_messages
            assert one["delta"]
        else:
            assert one.keys() == {"type", "name", "value"}
    assert not open_steps | open_messages


def verify_message(said: list[Said]) -> None:
    """Fail where a client of Vercel's streams refuses a chunk, or throws."""
    assert [one["type"] for one in said[:2]] == ["start", "start-step"]
    assert said[-1] == {"type": "[DONE]"}
    assert said[-2]["type"] in ("finish", "error", "abort")
    texts: set[str] = set()
    for one in said[:-1]:
        kind, fields = one["type"], one.keys() - {"type"}
        if kind.startswith("data-"):
            assert "data" in fields <= {"data", "transient"}
            continue
        assert fields == _CHUNK_FIELDS[kind]
        if kind == "text-start":
            texts.add(one["id"])
        elif kind == "text-end":
            texts.remove(one["id"])
        elif kind == "text-delta":
            assert one["id"] in texts
            assert one["delta"]
    assert not texts

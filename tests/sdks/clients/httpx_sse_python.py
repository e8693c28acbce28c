"""httpx-sse on the native stream."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import httpx
from httpx_sse import connect_sse

from sdks.clients.driving import MANY_TOKENS, MESSAGES, TOKENS, Row, drive


def read(url: str, heard: list[str], seen: dict[str, str], **how: Any) -> Iterator[str]:
    """Read a stream, and keep what is needed to come back."""
    with httpx.Client(timeout=90) as client, connect_sse(client, url=url, **how) as source:
        source.response.raise_for_status()
        for event in source.iter_sse():
            seen |= {"id": event.id, "job": source.response.headers["X-Job-Id"]}
            data = event.json()
            if event.event == "narration":
                heard.append(data["human"])
            if event.event == "error":
                raise RuntimeError(data["error"]["message"])
            if event.event == "token":
                yield data["t"]
            if event.event == "done":
                return
    raise EOFError("the stream ended before it was done")


def ask(url: str, heard: list[str], tokens: int = TOKENS, seen: dict[str, str] | None = None) -> Iterator[str]:
    body = {"messages": MESSAGES, "max_tokens": tokens}
    headers = {"Accept": "text/event-stream"}
    yield from read(
        f"{url}/v1/inference", heard, {} if seen is None else seen, method="POST", json=body, headers=headers
    )


def resumed(url: str, heard: list[str]) -> Iterator[str]:
    seen: dict[str, str] = {}
    try:
        yield from ask(url, heard, MANY_TOKENS, seen)
    except (httpx.TransportError, EOFError):
        stream = f"{url}/v1/inference/{seen['job']}/stream"
        yield from read(stream, heard, seen, method="GET", headers={"Last-Event-ID": seen["id"]})
    else:
        raise AssertionError("nobody cut the stream")


if __name__ == "__main__":
    row: Row = {"plain": ask, "narration": ask, "slow": ask, "error": ask, "resume": resumed}
    drive(version("httpx-sse"), {"httpx-sse, native": row})

"""LiteLLM as a library."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import litellm

from sdks.clients.driving import MESSAGES, TOKENS, agree, drive

NARRATED = {"extra_body": {"narration": "chunk"}}


def ask(url: str, **more: Any) -> Any:
    return litellm.completion(
        model="openai/sim", api_base=f"{url}/v1", api_key="none", messages=MESSAGES, max_tokens=TOKENS, seed=7,
        max_retries=0, **more,
    )  # fmt: skip


def stream(url: str, heard: list[str], **more: Any) -> Iterator[str]:
    for chunk in ask(url, stream=True, **more):
        if told := getattr(chunk, "narration", None):
            heard.append(told["human"])
        yield chunk.choices[0].delta.content or ""


def both(url: str, heard: list[str]) -> Iterator[str]:
    text = "".join(stream(url, heard))
    agree(text, ask(url).choices[0].message.content)
    yield text


def built(url: str, heard: list[str], **more: Any) -> Iterator[str]:
    chunks = list(ask(url, stream=True, **more))
    heard += [chunk.narration["human"] for chunk in chunks if getattr(chunk, "narration", None)]
    yield litellm.stream_chunk_builder(chunks).choices[0].message.content


if __name__ == "__main__":
    row = {
        "plain": both,
        "helper": built,
        "narration": lambda url, heard: stream(url, heard, **NARRATED),
        "narrated helper": lambda url, heard: built(url, heard, **NARRATED),
        "slow": stream,
        "error": stream,
    }
    drive(version("litellm"), {"LiteLLM": row})

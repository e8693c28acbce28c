"""openai-python, chat and Responses, as far as its version has them."""

from collections.abc import Iterator
from typing import Any

import openai
from openai import OpenAI

from sdks.clients.driving import MANY_TOKENS, MESSAGES, TEXT, TOKENS, Row, agree, drive

CHAT: dict[str, Any] = {"model": "sim", "messages": MESSAGES, "max_tokens": TOKENS, "seed": 7}
RESPONSE: dict[str, Any] = {"model": "sim", "input": TEXT, "max_output_tokens": TOKENS}
NARRATED = {"extra_body": {"narration": "chunk"}}
TOLD = {"extra_body": {"narration": "event"}}


def client(url: str) -> Any:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=90)


def chat(url: str, heard: list[str], **more: Any) -> Iterator[str]:
    for chunk in client(url).chat.completions.create(**CHAT, stream=True, **more):
        if told := getattr(chunk, "narration", None):
            heard.append(told["human"])
        yield chunk.choices[0].delta.content or ""


def chat_both(url: str, heard: list[str]) -> Iterator[str]:
    text = "".join(chat(url, heard))
    agree(text, client(url).chat.completions.create(**CHAT).choices[0].message.content)
    yield text


def chat_helper(url: str, heard: list[str], **more: Any) -> Iterator[str]:
    with client(url).chat.completions.stream(**CHAT, **more) as stream:
        for event in stream:
            if event.type == "chunk" and (told := getattr(event.chunk, "narration", None)):
                heard.append(told["human"])
            if event.type == "content.delta":
                yield event.delta


def response(url: str, heard: list[str], **more: Any) -> Iterator[str]:
    yield from texts(client(url).responses.create(**RESPONSE, stream=True, **more), heard)


def response_both(url: str, heard: list[str]) -> Iterator[str]:
    text = "".join(response(url, heard))
    agree(text, client(url).responses.create(**RESPONSE).output_text)
    yield text


def response_helper(url: str, heard: list[str], **more: Any) -> Iterator[str]:
    with client(url).responses.stream(**RESPONSE, **more) as stream:
        yield from texts(stream, heard)


def response_resumed(url: str, heard: list[str]) -> Iterator[str]:
    wishes = RESPONSE | {"max_output_tokens": MANY_TOKENS}
    stream = client(url).responses.create(**wishes, stream=True, background=True)
    job, last, deltas = "", -1, 0
    for event in stream:
        last = event.sequence_number
        job = job or event.response.id
        if event.type == "response.output_text.delta":
            deltas += 1
            yield event.delta
        if deltas == 3:
            break
    stream.close()
    yield from texts(client(url).responses.retrieve(job, stream=True, starting_after=last), heard)


def texts(stream: Any, heard: list[str]) -> Iterator[str]:
    for event in stream:
        if event.type == "relay.narration":
            heard.append(event.narration["human"] if hasattr(event, "narration") else event.human)
        if event.type == "response.failed":
            raise RuntimeError(f"{event.type}: {event.response.error.message}")
        if event.type == "response.output_text.delta":
            yield event.delta


def rows() -> dict[str, Row]:
    """Return what this version can do."""
    has = client("http://localhost")
    talks: Row = {"plain": chat_both, "narration": lambda url, heard: chat(url, heard, **NARRATED)}
    if hasattr(has.chat.completions, "stream"):
        talks |= {"helper": chat_helper, "narrated helper": lambda url, heard: chat_helper(url, heard, **NARRATED)}
    found = {"openai-python, chat": talks | {"slow": chat, "error": chat}}
    if hasattr(has, "responses"):
        found["openai-python, Responses"] = {
            "plain": response_both,
            "helper": response_helper,
            "narration": lambda url, heard: response(url, heard, **TOLD),
            "narrated helper": lambda url, heard: response_helper(url, heard, **TOLD),
            "slow": response,
            "error": response,
            "resume": response_resumed,
        }
    return found


if __name__ == "__main__":
    drive(openai.__version__, rows())

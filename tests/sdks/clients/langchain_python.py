"""LangChain's ChatOpenAI, alone and in a chain."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from sdks.clients.driving import TEXT, TOKENS, agree, drive

NARRATED = {"default_headers": {"X-Narration": "chunk"}}


def model(url: str, **more: Any) -> Any:
    return ChatOpenAI(base_url=f"{url}/v1", api_key="none", model="sim", max_tokens=TOKENS, max_retries=0, **more)


def stream(url: str, heard: list[str], **more: Any) -> Iterator[str]:
    for chunk in model(url, **more).stream(TEXT):
        told = chunk.additional_kwargs.get("narration") or chunk.response_metadata.get("narration")
        if told:
            heard.append(told["human"])
        yield chunk.content


def both(url: str, heard: list[str]) -> Iterator[str]:
    text = "".join(stream(url, heard))
    agree(text, model(url).invoke(TEXT).content)
    yield text


def chain(url: str, heard: list[str], **more: Any) -> Iterator[str]:
    prompt = ChatPromptTemplate.from_messages([("user", "{wish}")])
    yield from (prompt | model(url, **more) | StrOutputParser()).stream({"wish": TEXT})


if __name__ == "__main__":
    row = {
        "plain": both,
        "helper": chain,
        "narration": lambda url, heard: stream(url, heard, **NARRATED),
        "narrated helper": lambda url, heard: chain(url, heard, **NARRATED),
        "slow": stream,
        "error": stream,
    }
    drive(version("langchain-openai"), {"LangChain": row})

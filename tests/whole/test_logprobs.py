"""How probable tokens were, from the engine to OpenAI's clients, through the real relay and worker."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.chats import HELLO, chat, finish
from support.processes import Play, manifest, playing
from support.streams import ask, text_of

NEARLY = 0.3
"""OpenVINO rounds what it keeps of a prompt, so that a second reading is not quite the first."""


@pytest.fixture(scope="module")
def simulated() -> Iterator[Play]:
    """A simulator as fast as it can be, whose characters are split across tokens."""
    with playing(manifest(engine={"options": {"load": [], "tokensPerSecond": 0, "splitUtf8": True}})) as play:
        play.wait_ready()
        yield play


@pytest.fixture(scope="module")
def real() -> Iterator[Play]:
    """A real model."""
    resource = manifest("smollm", engine={"name": "OpenVINO"})
    resource["spec"]["model"] = {"source": "builtin://smollm2-135m", "servedName": "smollm"}
    with playing(resource) as play:
        play.wait_ready(120)
        yield play


def whole(play: Play, **wishes: Any) -> dict[str, Any]:
    """Return the answer to a greedy question."""
    body = {"messages": HELLO, "temperature": 0, **wishes}
    answer = httpx.post(f"{play.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def entries(said: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tokens of an answer, which are its text and all of its tokens."""
    choice = said["choices"][0]
    found: list[dict[str, Any]] = choice["logprobs"]["content"]
    assert "".join(one["token"] for one in found) == choice["message"]["content"]
    assert all(-9999 <= one["logprob"] <= 0 for one in found)
    return found


def values(said: dict[str, Any]) -> list[float]:
    return [one["logprob"] for one in entries(said)]


def test_a_long_answer_has_one_for_each_token_and_the_same_text_as_without(simulated: Play) -> None:
    said = whole(simulated, max_tokens=400, logprobs=True)
    assert (
        said["choices"][0]["message"]["content"]
        == whole(simulated, max_tokens=400)["choices"][0]["message"]["content"]
    )
    assert len(entries(said)) in (399, 400), "the last token may be half a character"
    assert "" in {one["token"] for one in entries(said)}, "characters of several tokens"
    assert values(said) == values(whole(simulated, max_tokens=400, logprobs=True))


def test_stream_and_whole_say_the_same_and_so_does_our_own(simulated: Play) -> None:
    said = values(whole(simulated, max_tokens=100, logprobs=True))
    with chat(simulated.port, temperature=0, max_tokens=100, logprobs=True) as stream:
        chosen = [one["logprobs"] for chunk in finish(stream).chunks for one in chunk["choices"] if "logprobs" in one]
    assert [one["logprob"] for some in chosen for one in some["content"]] == said
    with ask(simulated.port, HELLO, temperature=0, max_tokens=100, logprobs=True) as stream:
        events = stream.rest()
    told = [event.data for event in events if event.name == "token"]
    assert [value for one in told for value in one["logprobs"]] == said
    assert "".join(one["t"] for one in told) == text_of(events)


def test_a_real_model_tells_what_it_thinks_and_nearly_the_same_again(real: Play) -> None:
    said = whole(real, max_tokens=12, logprobs=True, top_logprobs=0)
    assert len(entries(said)) == said["usage"]["completion_tokens"] == 12
    assert len(set(values(said))) > 3
    assert values(whole(real, max_tokens=12, logprobs=True)) == pytest.approx(values(said), abs=NEARLY)


def test_a_real_model_tells_texts_too_and_refuses_the_tokens_it_did_not_choose(real: Play) -> None:
    body = {"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0, "logprobs": 0}
    choice = httpx.post(f"{real.url}/v1/completions", json=body, timeout=60).json()["choices"][0]
    logprobs = choice["logprobs"]
    starts = [choice["text"][at:] for at in logprobs["text_offset"]]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert all(rest.startswith(token) for rest, token in zip(starts, logprobs["tokens"], strict=True))
    assert len(logprobs["token_logprobs"]) == 4
    refused = httpx.post(f"{real.url}/v1/completions", json=body | {"logprobs": 2}, timeout=60)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logprobs")

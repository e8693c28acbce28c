"""Clients of OpenAI's API meet replicas as they come: full, loading, or not the one that has what they ask for."""

import json
from typing import Any

import pytest
from e2e.calls import Answer, call
from e2e.clients import Client
from e2e.clusters import Cluster, until
from e2e.workers import Applied, worker

CHAT = {"model": "simulator", "messages": [{"role": "user", "content": "Sing"}], "max_tokens": 12, "seed": 7}
LONG = {"input": "Sing long", "max_output_tokens": 6000, "background": True}


@pytest.fixture(scope="module")
def pair(cluster: Cluster, client: Client, room: str) -> Applied:
    """Two replicas that take one request at a time, let one wait, and load for as long as a test needs."""
    options = {"load": [{"stage": "loading weights", "seconds": 25}], "tokensPerSecond": 50}
    engine = {"name": "Simulator", "maxSequences": 1, "options": options}
    relay = {"drainSeconds": 60, "queueLimit": 1}
    applied = Applied(cluster, worker("pair", engine=engine, replicas=2, relay=relay), room)
    applied.ready(replicas=2)
    return applied


def _owner(answer: Answer) -> str:
    """Return the replica that made an answer."""
    assert answer.status == 200, f"{answer.status}: {answer.body}"
    return answer.headers["x-job-id"].rpartition("-")[0]


def _chat(pair: Applied, pod: str, **more: Any) -> Answer:
    return call(pair.url("/v1/chat/completions", pod), "POST", CHAT | more)


def _check_chats(pair: Applied, asked: str, other: str) -> None:
    """See that whole and streamed chats that one replica is asked for are the other's, and say the same."""
    whole, streamed = _chat(pair, asked), _chat(pair, asked, stream=True)
    assert (_owner(whole), _owner(streamed)) == (other, other)
    (choice,) = whole.whole()["choices"]
    assert choice["finish_reason"] == "length"
    assert _text_of(streamed) == choice["message"]["content"] != ""


def _text_of(streamed: Answer) -> str:
    """Return the text of a stream, which is on the wire as OpenAI's is."""
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    blocks = [block for block in streamed.body.split("\n\n") if not block.startswith(":")]
    assert blocks[-2:] == ["data: [DONE]", ""]
    assert all(block.startswith("data: {") and "\n" not in block for block in blocks[:-2])
    chunks = [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def test_chats_that_meet_a_full_replica_are_answered_by_the_other(pair: Applied) -> None:
    responses = pair.url("/v1/responses", "pair-0")
    hogs = [call(responses, "POST", LONG).whole() for _ in range(2)]  # one that runs, and one that waits
    assert {hog["id"].startswith("resp_pair-0-") for hog in hogs} == {True}
    try:
        _check_chats(pair, "pair-0", "pair-1")
    finally:
        _cancel(pair, hogs)


def _cancel(pair: Applied, hogs: list[dict[str, Any]]) -> None:
    """Cancel responses at the other replica, and once more at their own."""
    for hog in hogs:
        there = call(pair.url(f"/v1/responses/{hog['id']}/cancel", "pair-1"), "POST").whole()
        here = call(pair.url(f"/v1/responses/{hog['id']}/cancel", "pair-0"), "POST").whole()
        assert (there["status"], here["status"]) == ("cancelled", "cancelled")


def test_a_response_of_the_background_is_read_on_at_the_other_replica(pair: Applied) -> None:
    asked = {"input": "Sing", "max_output_tokens": 200, "background": True, "stream": True}
    left = call(pair.url("/v1/responses", "pair-0"), "POST", asked, until='"sequence_number":6,')
    assert _owner(left) == "pair-0"
    path = f"/v1/responses/resp_{left.headers['x-job-id']}"
    rest = _told(call(pair.url(f"{path}?stream=true&starting_after=6", "pair-1")))
    every = _told(call(pair.url(f"{path}?stream=true", "pair-0")))
    assert [told["sequence_number"] for told in every] == list(range(len(every)))
    assert rest == every[7:]
    ended = rest[-1]["response"]
    assert (rest[-1]["type"], ended["usage"]["output_tokens"]) == ("response.incomplete", 200)
    assert call(pair.url(path, "pair-1")).whole() == ended


def _told(answer: Answer) -> list[dict[str, Any]]:
    return [told for name, told in answer.events() if name != "keepalive"]


def test_chats_that_meet_a_loading_replica_are_answered_by_the_other(pair: Applied, cluster: Cluster) -> None:
    pair.ready(replicas=2)
    cluster.kill("pair-1", "worker", pair.namespace)
    until(lambda: not _is_ready(cluster, pair), "pair-1 loads again")
    _check_chats(pair, "pair-1", "pair-0")  # it makes its own as soon as it can


def _is_ready(cluster: Cluster, pair: Applied) -> bool:
    (one,) = cluster.get("pod", "pair-1", pair.namespace)["status"]["containerStatuses"]
    return bool(one["ready"])

"""A client of `/v1/responses` that sees every event as it came."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from support.processes import DEADLINE_S, Relay
from support.streams import Event, Stream


def create(relay: Relay, asked: Any = "hello", **wishes: Any) -> httpx.Response:
    """Ask for a response without a stream."""
    headers = wishes.pop("headers", {})
    return httpx.post(
        f"{relay.url}/v1/responses", json={"input": asked} | wishes, headers=headers, timeout=DEADLINE_S
    )


def create_while(relay: Relay, act: Callable[[], Any], **wishes: Any) -> httpx.Response:
    """Ask for a response without a stream, and play the worker while the relay waits for it."""
    with ThreadPoolExecutor(1) as asking:
        answer = asking.submit(create, relay, **wishes)
        act()
        return answer.result(DEADLINE_S)


def create_stream(port: int, asked: Any = "hello", **wishes: Any) -> Stream:
    """Ask for a response with a stream."""
    headers = wishes.pop("headers", {})
    body = {"input": asked, "stream": True} | wishes
    return Stream(port, "/v1/responses", method="POST", body=body, headers=headers)


def read_again(port: int, response_id: str, after: int | None = None) -> Stream:
    """Read a response's stream again, from its start or after a number."""
    tail = "" if after is None else f"&starting_after={after}"
    return Stream(port, f"/v1/responses/{response_id}?stream=true{tail}")


def id_of(events: list[Event]) -> str:
    """Return the id of the response that events are about."""
    return str(events[0].data["response"]["id"])


def raw_of(events: list[Event]) -> bytes:
    """Return events as they came."""
    return b"".join(event.raw for event in events)


def kinds_of(events: list[Event]) -> list[str]:
    """Return the types of events without what all have in front; consecutive deltas are one."""
    kinds: list[str] = []
    for event in events:
        assert event.name == event.data["type"]
        kind = event.name.removeprefix("response.")
        if kind != "output_text.delta" or kinds[-1:] != [kind]:
            kinds.append(kind)
    return kinds


def delta_text(events: list[Event]) -> str:
    """Return the text that the deltas make up."""
    return "".join(event.data["delta"] for event in events if event.name == "response.output_text.delta")


def assert_numbered(events: list[Event], start: int = 0) -> None:
    """Events are numbered without a gap."""
    assert [event.data["sequence_number"] for event in events] == list(range(start, start + len(events)))

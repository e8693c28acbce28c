"""The page's own reader of server-sent events and its rule of exactly once, asked directly in a browser."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from support.processes import running_relay
from support.screens import Screen

PARSE = """async (pieces) => {
  const { EventParser } = await import("/page/parsing.js");
  const parser = new EventParser();
  return pieces.flatMap((piece) => parser.push(piece));
}"""
FOLD = """async (events) => {
  const { apply, newJob } = await import("/page/job.js");
  const job = newJob("Why?", 5, "token", 0);
  const verdicts = events.map(([id, event, data]) => apply(job, { id, event, data }) ?? "");
  return { ...job, verdicts };
}"""
WIRE = (
    'retry: 2000\r\nid: j-1\nevent: token\ndata: {"t":\rdata: "é🎼\\n"}\n\n: hb\n\nid: j-2\ndata:{"a":1}\n\n'
    'data: no json\n\ndata: 7\n\nevent: x\n\nid: bad\0id\ndata: {}\n\ndata: {"unfinished": true}\n'
)
EVENTS = [
    {"id": "j-1", "event": "token", "data": {"t": "é🎼\n"}},
    {"id": "j-2", "event": "message", "data": {"a": 1}},
    {"id": "j-2", "event": "message", "data": {}},
]


@pytest.fixture(scope="module")
def screen(browser: Browser) -> Iterator[Screen]:
    """A page whose modules are asked; its relay has no worker."""
    with running_relay() as relay:
        shown = Screen(browser, relay.url)
        yield shown
        shown.close()


def test_events_are_the_same_however_their_bytes_are_cut(screen: Screen) -> None:
    rng = random.Random(8)
    assert screen.evaluate(PARSE, [WIRE]) == EVENTS
    assert screen.evaluate(PARSE, list(WIRE)) == EVENTS
    for _ in range(50):
        cuts = sorted(rng.randrange(len(WIRE)) for _ in range(rng.randrange(20)))
        pieces = [WIRE[a:b] for a, b in zip([0, *cuts], [*cuts, len(WIRE)], strict=True)]
        assert screen.evaluate(PARSE, pieces) == EVENTS


def token(i: int, t: str, count: int = 1) -> list[Any]:
    return [f"j-{i}", "token", {"i": i, "t": t} | ({"count": count} if count > 1 else {})]


SNAPSHOT = ["", "snapshot", {"status": "running", "text": "abc", "tokens": 3}]


@pytest.mark.parametrize(
    ("events", "text", "verdicts"),
    [
        ([token(0, "a"), token(1, "b")], "ab", ["", ""]),
        ([token(0, "a"), token(0, "a"), token(1, "b"), token(0, "a")], "ab", ["", "", "", ""]),
        ([token(0, "abc", 3), token(1, "b"), token(3, "d")], "abcd", ["", "", ""]),
        ([token(0, "a"), token(2, "c")], "a", ["", "again"]),
        ([token(0, "a"), token(0, "ab", 2)], "a", ["", "again"]),
        ([token(0, "x"), SNAPSHOT, token(2, "c"), token(3, "d")], "abcd", ["", "", "", ""]),
        ([["j-9", "unheard-of", {"t": "x"}], token(0, "a"), ["j-10", "done", {}]], "a", ["", "", "stop"]),
    ],
    ids=["in order", "twice", "several at once", "one is missing", "half of it is known", "snapshot", "unknown event"],
)  # fmt: skip
def test_each_token_counts_once(screen: Screen, events: list[Any], text: str, verdicts: list[str]) -> None:
    job = screen.evaluate(FOLD, events)
    assert (job["text"], job["verdicts"]) == (text, verdicts)


def test_a_token_that_cannot_be_used_does_not_move_the_place(screen: Screen) -> None:
    assert screen.evaluate(FOLD, [token(0, "a"), token(5, "x")])["lastId"] == "j-0"


def test_what_goes_on_takes_the_place_of_what_was_said_of_it(screen: Screen) -> None:
    def said(action: str, progress: float | None = None) -> list[Any]:
        told = {"action": action, "human": action, "actor": "x"} | (
            {} if progress is None else {"progress": progress}
        )
        return ["j-1", "narration", told]

    events = [said("a", 0.1), said("a", 0.5), said("a", 1), said("a", 0.2), said("b", 0.3), said("c"), said("c")]
    told = screen.evaluate(FOLD, events)["told"]
    assert [(one["action"], one.get("progress")) for one in told] == [
        ("a", 1),
        ("a", 0.2),
        ("b", 0.3),
        ("c", None),
        ("c", None),
    ]
    many = screen.evaluate(FOLD, [said(f"n{number}") for number in range(1000)])["told"]
    assert (len(many), many[-1]["action"]) == (400, "n999"), "a story that never ends takes bounded memory"

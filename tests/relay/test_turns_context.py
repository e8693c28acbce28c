"""Context that is fetched before a turn: only when it is asked for, in bounds, and never in the way."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rhapsode_contract import frames
from support.processes import DEADLINE_S, wait_until
from support.requests import assert_error
from support.streams import Event, actions_of
from support.turns import PATIENCE_S, Table, names_of, sitting

POIS = [{"name": f"Place {n}"} for n in range(9)]


def sources(url: str, **changes: Any) -> list[dict[str, Any]]:
    return [
        {"name": "sparks", "url": f"{url}/sparks?kind=poi", "items": "/pois", "timeoutSeconds": PATIENCE_S} | changes
    ]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    with sitting(context=sources) as running, running.worker.breathing():
        yield running


@pytest.fixture(autouse=True)
def forget(table: Table) -> None:
    table.outside.calls.clear()
    table.outside.held.clear()
    table.outside.answers["/sparks"] = (200, json.dumps({"pois": POIS}).encode())


def play(table: Table, **wishes: Any) -> tuple[str, list[Event]]:
    """Play a turn; return what was asked of the model, and what the client was told."""
    with table.ask(**wishes) as stream:
        asked = table.narrate()
        table.intend()
        return question(asked), stream.rest()


def question(asked: frames.Generate) -> str:
    return (asked.messages or [])[-1].content


@pytest.mark.parametrize("wishes", [{}, {"context": {}}, {"context": {"sparks": False}}])
def test_it_is_off_unless_a_client_wants_it(table: Table, wishes: dict[str, Any]) -> None:
    asked, _ = play(table, **wishes)
    assert asked == "open the door"
    assert "/sparks" not in table.outside.paths()


@pytest.mark.parametrize(("wish", "count"), [(True, 3), ({"count": 1}, 1), ({"count": 20}, 9), ({}, 3)])
def test_so_many_items_are_asked_and_used(table: Table, wish: Any, count: int) -> None:
    asked, _ = play(table, context={"sparks": wish})
    assert asked == "".join(f"* {one['name']}\n" for one in POIS[:count]) + "open the door"
    call = table.outside.wait_call("/sparks")
    assert call.query == f"kind=poi&count={wish.get('count', 3) if isinstance(wish, dict) else 3}"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((500, b"{}"), "it answered 500"), ((301, b""), "it answered 301"), ((200, b"<html>"), "its answer is not JSON"),
        ((200, b"\xff"), "its answer is not JSON"), ((200, b"[1]"), "its answer has no list at '/pois'"),
        ((200, b'{"pois": {}}'), "its answer has no list at '/pois'"),
        ((200, b'{"pois": ["' + b"x" * 300_000 + b'"]}'), "its answer is too long, or broke off"),
        ((200, b"[" * 100_000), "its answer is not JSON"), ((0, b""), "cannot be reached: ServerDisconnectedError"),
    ],
)  # fmt: skip
def test_without_it_the_turn_goes_on_and_says_so(table: Table, answer: tuple[int, bytes], why: str) -> None:
    table.outside.answers["/sparks"] = answer
    asked, told = play(table, context={"sparks": True})
    assert asked == "open the door"
    assert "context_missing" in actions_of(told)
    said = next(one.data["human"] for one in told if one.data.get("action") == "context_missing")
    assert said.startswith("Context sparks is missing: ")
    assert why[:20] in said
    assert names_of(told)[:4] == ["queued", "narration", "started", "token"]
    assert names_of(told)[-3:] == ["metrics", "end", "done"]


def test_a_slow_source_is_not_waited_for() -> None:
    with sitting(context=lambda url: sources(url, timeoutSeconds=1)) as table:
        table.outside.hold("/sparks")
        asked, told = play(table, context={"sparks": True})
    assert asked == "open the door"
    assert told[-2].data["timing"]["context_ms"] >= 1000


@pytest.mark.parametrize("wish", [{"count": 0}, {"count": 21}, {"count": "3"}, 3, "yes", {"url": "http://evil"}])
def test_a_wish_that_makes_no_sense_is_refused(table: Table, wish: Any) -> None:
    assert_error(table.post(context={"sparks": wish}), 400, "invalid_request")


def test_a_source_that_is_not_declared_is_refused(table: Table) -> None:
    error = assert_error(table.post(context={"url": True}), 400, "invalid_request")
    assert error["message"] == "unknown context source 'url'; there are sparks"


def test_a_required_source_that_fails_ends_the_turn_before_the_model_is_asked() -> None:
    with sitting(context=lambda url: sources(url, required=True)) as table:
        table.outside.answers["/sparks"] = (404, b"")
        with table.ask(context={"sparks": True}) as stream:
            told = stream.rest()
        error = told[-2].data
        assert (error["error"]["code"], error["retryable"]) == ("context_required", True)
        assert error["error"]["message"] == "context source sparks: it answered 404"
        with ThreadPoolExecutor() as pool:
            answering = pool.submit(table.post, None, context={"sparks": True})
            assert_error(answering.result(DEADLINE_S), 424, "context_required", retryable=True)
        wait_until(lambda: table.relay.metric("rhapsode_jobs_running") == 0, "nothing runs")
        assert table.outside.paths() == ["/sparks", "/sparks"]


def test_a_source_may_be_asked_by_post() -> None:
    with sitting(context=lambda url: sources(url, method="POST", countParameter="n")) as table:
        table.outside.answers["/sparks"] = (200, json.dumps({"pois": POIS}).encode())
        asked, _ = play(table, context={"sparks": {"count": 2}})
        assert asked == "* Place 0\n* Place 1\nopen the door"
        call = table.outside.wait_call("/sparks")
        assert (call.method, call.body) == ("POST", {"n": 2})


def test_the_phase_has_a_limit_of_its_own() -> None:
    with sitting(context=sources, limits={"contextSeconds": 1}) as table:
        table.outside.hold("/sparks")
        asked, told = play(table, context={"sparks": True})
        assert asked == "open the door"
        assert "no answer within 1 s" in next(
            one.raw.decode() for one in told if "context_missing" in one.raw.decode()
        )

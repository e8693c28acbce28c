"""What an answer must keep to: told to engines that keep to it, refused for others, also after a wait."""

from typing import Any

import pytest

from rhapsode_contract import frames
from rhapsode_contract.guides import GUIDE_WORDS
from support.fake_worker import FakeWorker
from support.processes import Relay, wait_until
from support.requests import assert_error, post
from support.streams import ask, text_of

GUIDES: list[tuple[str, Any]] = [
    ("json_schema", {"type": "object"}),
    ("regex", "[0-9]{3}"),
    ("grammar", 'root ::= "yes" | "no"'),
]


def test_every_kind_has_its_case_here() -> None:
    assert [kind for kind, _ in GUIDES] == list(GUIDE_WORDS)


@pytest.mark.parametrize(("kind", "guide"), GUIDES)
def test_a_guide_reaches_the_worker_unchanged_and_alone(relay: Relay, kind: str, guide: Any) -> None:
    with FakeWorker(relay.socket, **{kind: True}) as worker:
        assert post(relay, {"prompt": "a", kind: guide}).status_code == 202
        job = worker.receive(frames.Generate)
    assert {name: getattr(job, name) for name in GUIDE_WORDS if getattr(job, name) is not None} == {kind: guide}


@pytest.mark.parametrize(("kind", "guide"), GUIDES)
def test_an_engine_that_keeps_to_others_is_no_help(relay: Relay, kind: str, guide: Any) -> None:
    others = {name: True for name in GUIDE_WORDS if name != kind}
    with FakeWorker(relay.socket, **others):
        wait_until(lambda: relay.metric("rhapsode_worker_ready") == 1, "the worker is ready")
        error = assert_error(post(relay, {"prompt": "a", kind: guide}), 400, "unsupported")
    assert error["param"] == kind
    assert GUIDE_WORDS[kind] in error["message"]  # type: ignore[index]


@pytest.mark.parametrize(("kind", "guide"), GUIDES)
def test_who_waits_for_a_load_is_served_or_refused_when_it_is_known_what_the_engine_can(
    relay: Relay, kind: str, guide: Any
) -> None:
    """While a model loads, nobody knows yet: refusing would be wrong, and ignoring it too."""
    with FakeWorker(relay.socket, ready=False) as worker, ask(relay.port, **{kind: guide}) as stream:
        stream.next("queued")
        with ask(relay.port) as plain:
            plain.next("queued")
            worker.send(frames.State(phase="ready", caps=frames.Caps(slots=1)))
            error = stream.until("error")[-1].data
            assert (error["error"]["code"], error["error"]["param"]) == ("unsupported", kind)
            assert not error["retryable"]
            worker.serve("a")
            assert text_of(plain.rest()) == "a"


def test_who_waited_with_a_guide_that_the_engine_keeps_to_is_served(relay: Relay) -> None:
    with FakeWorker(relay.socket, ready=False) as worker, ask(relay.port, regex="a") as stream:
        stream.next("queued")
        worker.send(frames.State(phase="ready", caps=frames.Caps(slots=1, regex=True)))
        assert worker.serve("a").regex == "a"
        assert text_of(stream.rest()) == "a"


def test_the_longest_grammar_goes_through_whole(relay: Relay) -> None:
    grammar = 'root ::= "' + "é" * (64 * 1024 - 12) + '"'
    with FakeWorker(relay.socket, grammar=True) as worker:
        assert post(relay, {"prompt": "a", "grammar": grammar}).status_code == 202
        assert worker.receive(frames.Generate).grammar == grammar

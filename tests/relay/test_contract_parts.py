"""Gates, bodies, pointers and keys of a contract: small decisions that must never be wrong."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract.outcomes import Gate, Sink
from rhapsode_relay.turns.composing import NothingToWrite, call_key, compose
from rhapsode_relay.turns.gating import closed, same
from rhapsode_relay.turns.pointers import MISSING, find, join, split

JSON = dict[str, Any]
OUTCOME: JSON = {"narrative": "Dark.", "intents": {"poi": {"action": "create", "name": "Mill"}, "none": None}}
REQUEST: JSON = {"policy": {"memory": True, "n": 1}, "inputs": {"campaign": "c1", "party": [{"name": "Ada"}]}}
POLICY = {"from": "request", "path": "/policy/memory", "equals": True}
CREATES = {"from": "outcome", "path": "/intents/poi/action", "equals": "create"}


def sink(**how: Any) -> Sink:
    return msgspec.convert({"name": "poi", "url": "http://journal/pois", **how}, Sink)


def gates(*raw: JSON) -> list[Gate]:
    return msgspec.convert(list(raw), list[Gate])


# Gates


def test_a_sink_without_conditions_is_called_and_so_is_one_whose_conditions_all_hold() -> None:
    assert closed([], REQUEST, OUTCOME) == ""
    assert closed(gates(POLICY, CREATES), REQUEST, OUTCOME) == ""


@pytest.mark.parametrize(
    ("gate", "why"),
    [
        (POLICY | {"equals": False}, "/policy/memory of the request is not false"),
        (POLICY | {"path": "/policy/nothing"}, "/policy/nothing of the request is not true"),
        (POLICY | {"path": "/policy/n"}, "/policy/n of the request is not true"),
        (POLICY | {"from": "outcome"}, "/policy/memory of the outcome is not true"),
        (CREATES | {"equals": "update"}, '/intents/poi/action of the outcome is not "update"'),
        (CREATES | {"path": "/intents/poi/action/x"}, '/intents/poi/action/x of the outcome is not "create"'),
    ],
)
def test_one_condition_that_does_not_hold_suppresses_a_sink_and_is_said(gate: JSON, why: str) -> None:
    assert closed(gates(CREATES, gate), REQUEST, OUTCOME) == why


@pytest.mark.parametrize(
    ("one", "other", "are"),
    [
        (1, 1.0, True), (1, True, False), (0, False, False), ("1", 1, False), (None, MISSING, False), ([], {}, False),
        ([1, {"a": 2}], [1.0, {"a": 2}], True), ([1], [True], False), ({"a": 1}, {"a": 1, "b": 2}, False),
    ],
)  # fmt: skip
def test_two_values_are_the_same_json(one: Any, other: Any, are: bool) -> None:
    assert same(one, other) is same(other, one) is are


# Bodies


@pytest.mark.parametrize(
    ("how", "body"),
    [
        ({}, OUTCOME),
        ({"part": "/intents/poi"}, {"action": "create", "name": "Mill"}),
        ({"part": "/narrative", "as": "text"}, {"text": "Dark."}),
        ({"part": "/intents/poi/name", "as": "n", "fields": {"c": "/campaign"}}, {"c": "c1", "n": "Mill"}),
        ({"part": "/narrative", "as": "t", "fields": {"who": "/party/0/name"}}, {"who": "Ada", "t": "Dark."}),
        ({"part": "/narrative", "as": "t", "fields": {"who": "/party/7/name", "x": "/y"}}, {"t": "Dark."}),
        ({"part": "/intents/poi", "fields": {"name": "/campaign"}}, {"action": "create", "name": "Mill"}),
    ],
)
def test_a_body_is_its_part_with_fields_of_the_inputs(how: JSON, body: JSON) -> None:
    assert compose(sink(**how), OUTCOME, REQUEST["inputs"]) == body


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("/intents/quest", "the outcome has no /intents/quest"),
        ("/intents/none", "the outcome has no /intents/none"),
        ("/narrative", "/narrative is no object"),
    ],
)
def test_a_part_that_is_not_there_is_nothing_to_write(part: str, why: str) -> None:
    with pytest.raises(NothingToWrite, match=why):
        compose(sink(part=part), OUTCOME, {})


def test_a_call_has_one_key_that_says_nothing_of_the_client() -> None:
    key = call_key("mine", "dm", "poi")
    assert key == call_key("mine", "dm", "poi")
    assert (
        len({key, call_key("mine", "dm", "quest"), call_key("mine", "d", "mpoi"), call_key("other", "dm", "poi")})
        == 4
    )
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")


# Pointers


@given(st.lists(st.text("ab/~*0", max_size=4), max_size=4))
def test_a_pointer_survives_its_text(steps: list[str]) -> None:
    assert list(split(join(steps))) == steps
    document: Any = "found"
    for step in reversed(steps):
        document = {step: document}
    assert find(document, join(steps)) == "found"


@pytest.mark.parametrize(
    "pointer", ["/a/01", "/a/-", "/a/-1", "/a/2", "/a/x", "/a/0/b", "/b", "/a/٣", "/a/" + "9" * 99]
)
def test_what_is_not_there_is_missing(pointer: str) -> None:
    assert find({"a": [1, 2]}, pointer) is MISSING
    assert find({"a": [1, 2]}, "/a/1") == 2

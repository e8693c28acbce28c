"""Normalizing: each rule as the contract says it, and what must hold whatever a model wrote.

| what is there | what becomes of it |
|---|---|
| nothing, null, blank, or blank as far as it may be long | the place of fallbackFrom, else fallback, else as it is |
| a text that is too long | its first characters |
| anything else | itself, byte for byte |
"""

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract.outcomes import NormalizeRule
from rhapsode_contract.results import Change
from rhapsode_relay.turns.normalizing import is_empty, normalize
from rhapsode_relay.turns.pointers import MISSING, find, places

JSON = dict[str, Any]
NAME = "/intents/poi/name"


def rules(*raw: JSON) -> list[NormalizeRule]:
    return msgspec.convert(list(raw), list[NormalizeRule])


def outcome(**poi: Any) -> JSON:
    return {"narrative": "  It is dark.\n", "intents": {"poi": poi}}


FULL = {"path": NAME, "fallbackFrom": "/intents/poi/place", "fallback": "A Notable Location", "maxLength": 5}
ROWS: list[tuple[str, JSON, JSON, Any, list[Change]]] = [
    ("a valid value", FULL, {"name": "Mill"}, "Mill", []),
    ("as long as it may be", FULL, {"name": "Mills"}, "Mills", []),
    ("too long", FULL, {"name": "Old Mill"}, "Old M", [Change(path=NAME, what="trimmed", from_length=8, to_length=5)]),
    ("code points", FULL, {"name": "🏰🏰🏰🏰🏰🏰"}, "🏰🏰🏰🏰🏰", [Change(path=NAME, what="trimmed", from_length=6, to_length=5)]),
    ("absent", FULL, {"place": "Fen"}, "Fen", [Change(path=NAME, what="fallback", source="/intents/poi/place")]),
    ("null", FULL, {"name": None, "place": "Fen"}, "Fen", [Change(path=NAME, what="fallback", source="/intents/poi/place")]),
    ("empty", FULL, {"name": "", "place": "Fen"}, "Fen", [Change(path=NAME, what="fallback", source="/intents/poi/place")]),
    ("blank", FULL, {"name": " \n\u3000", "place": "Fen"}, "Fen", [Change(path=NAME, what="fallback", source="/intents/poi/place")]),
    ("blank when trimmed", FULL, {"name": "      Mill", "place": "Fen"}, "Fen", [Change(path=NAME, what="fallback", source="/intents/poi/place")]),
    ("a long source", FULL, {"place": "Fenland"}, "Fenla", [Change(path=NAME, what="fallback", source="/intents/poi/place", from_length=7, to_length=5)]),
    ("an empty source", FULL, {"place": " "}, "A Not", [Change(path=NAME, what="fallback", from_length=18, to_length=5)]),
    ("no source", {"path": NAME, "fallbackFrom": "/intents/poi/place"}, {"name": ""}, "", []),
    ("nothing to take", {"path": NAME, "maxLength": 5}, {}, MISSING, []),
    ("a number", FULL, {"name": 123456789}, 123456789, []),
    ("false", FULL, {"name": False}, False, []),
    ("a missing list", {"path": NAME, "fallback": []}, {}, [], [Change(path=NAME, what="fallback")]),
    ("a list that is null", {"path": NAME, "fallback": []}, {"name": None}, [], [Change(path=NAME, what="fallback")]),
    ("an empty list", {"path": NAME, "fallback": ["x"]}, {"name": []}, [], []),
    ("an empty constant for null", {"path": NAME, "fallback": ""}, {"name": None}, "", [Change(path=NAME, what="fallback")]),
    ("a constant that is blank when trimmed", {"path": NAME, "fallback": "  a", "maxLength": 1}, {}, " ", [Change(path=NAME, what="fallback", from_length=3, to_length=1)]),
    ("an empty constant for a blank", {"path": NAME, "fallback": ""}, {"name": " "}, " ", []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "poi", "expected", "changes"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_a_value_becomes_what_its_rule_says(rule: JSON, poi: JSON, expected: Any, changes: list[Change]) -> None:
    made = outcome(**copy.deepcopy(poi))
    assert normalize(made, rules(rule)) == changes
    assert find(made, NAME) == expected
    assert made["narrative"] == "  It is dark.\n"


@pytest.mark.parametrize("intents", [{}, {"poi": None}, {"poi": "Mill"}, {"poi": []}, {"poi": 1}])
def test_what_would_hold_a_value_is_never_made(intents: JSON) -> None:
    made = {"narrative": "x", "intents": copy.deepcopy(intents)}
    assert normalize(made, rules(FULL)) == []
    assert made["intents"] == intents


def test_every_item_of_a_list_falls_back_on_itself() -> None:
    pois = [{"place": "Fen"}, {"name": "Mill"}, "none", {"place": "Keep"}]
    made = {"narrative": "x", "intents": {"pois": pois}}
    changes = normalize(made, rules({"path": "/intents/pois/*/name", "fallbackFrom": "/intents/pois/*/place"}))
    assert [(one.path, one.source) for one in changes] == [
        ("/intents/pois/0/name", "/intents/pois/0/place"),
        ("/intents/pois/3/name", "/intents/pois/3/place"),
    ]
    assert pois[3] == {"place": "Keep", "name": "Keep"}


def test_an_item_of_a_list_is_filled_where_it_stands() -> None:
    made = {"narrative": "x", "intents": {"tags": ["a", None, ""]}}
    changes = normalize(made, rules({"path": "/intents/tags/*", "fallback": "?"}))
    assert [one.path for one in changes] == ["/intents/tags/1", "/intents/tags/2"]
    assert made["intents"] == {"tags": ["a", "?", "?"]}


def test_a_rule_sees_what_later_ones_put_right() -> None:
    made = outcome()
    chain = rules(
        {"path": NAME, "fallbackFrom": "/intents/poi/place"}, {"path": "/intents/poi/place", "fallback": "Fen"}
    )
    assert [one.path for one in normalize(made, chain)] == ["/intents/poi/place", NAME]
    assert normalize(made, chain) == []


@pytest.mark.parametrize("path", ["/narrative", "/narrative/x", "/intents"])
def test_no_rule_reaches_the_narrative_or_all_intents(path: str) -> None:
    made = {"narrative": "", "intents": None}
    assert normalize(made, rules({"path": path, "fallback": "x", "maxLength": 1})) == []
    assert made == {"narrative": "", "intents": None}


def test_a_fallback_is_nobody_elses() -> None:
    rule = rules({"path": "/intents/tags", "fallback": ["x"]})
    one: JSON = {"narrative": "x", "intents": {}}
    other: JSON = {"narrative": "x", "intents": {}}
    normalize(one, rule)
    normalize(other, rule)
    one["intents"]["tags"].append("y")
    assert other["intents"]["tags"] == rule[0].fallback == ["x"]


# Whatever a model wrote

KEYS = ["name", "place", "poi", "pois", "tags"]
SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.text(" aü🏰", max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
)
INTENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5)
STEPS = st.lists(st.sampled_from([*KEYS, "*", "0"]), min_size=1, max_size=3)
RULES = st.lists(
    st.builds(
        lambda steps, source, fallback, longest: NormalizeRule(
            path="/intents/" + "/".join(steps),
            fallback_from=source and "/intents/" + "/".join(source),
            fallback=fallback,
            max_length=longest,
        ),
        STEPS, st.none() | STEPS, st.none() | st.text(" ab", max_size=6) | st.just([]), st.none() | st.integers(1, 4),
    ),
    max_size=4,
    unique_by=lambda rule: rule.path,
)  # fmt: skip


def apart(found: list[NormalizeRule]) -> list[NormalizeRule]:
    """Leave out rules for what another one is for, as `check_contracts` does."""
    kept: list[NormalizeRule] = []
    for rule in found:
        steps = rule.path.split("/")
        others = [one.path.split("/") for one in kept]
        if not any(
            len(steps) == len(one) and all(a == b or {a, b} & {"*"} for a, b in zip(steps, one, strict=True))
            for one in others
        ):
            kept.append(rule)
    return kept


@given(INTENTS, RULES.map(apart))
def test_what_is_normalized_stays_as_it_is(intents: JSON, chosen: list[NormalizeRule]) -> None:
    made = {"narrative": " dark ", "intents": intents}
    before = json.dumps(made)
    changes = normalize(made, chosen)
    after = json.dumps(made)
    assert (before == after) == (changes == [])
    assert normalize(made, chosen) == []
    assert json.dumps(made) == after
    assert made["narrative"] == " dark "


@given(INTENTS, RULES.map(apart))
def test_each_place_is_changed_once_and_holds_what_the_change_says(
    intents: JSON, chosen: list[NormalizeRule]
) -> None:
    made = {"narrative": "x", "intents": intents}
    was = copy.deepcopy(made)
    changes = normalize(made, chosen)
    assert len({one.path for one in changes}) == len(changes)
    for change in changes:
        before, after = find(was, change.path), find(made, change.path)
        assert before is MISSING or before != after or type(before) is not type(after)
        if change.what == "trimmed":
            assert before.startswith(after)
            assert (change.from_length, change.to_length) == (len(before), len(after))
    for rule in chosen:
        for place in places(made, rule.path):
            if rule.max_length is not None and isinstance(place.value(), str):
                assert len(place.value()) <= rule.max_length


@given(INTENTS, RULES.map(apart))
def test_normalizing_the_same_gives_the_same(intents: JSON, chosen: list[NormalizeRule]) -> None:
    one, other = ({"narrative": "x", "intents": copy.deepcopy(intents)} for _ in range(2))
    assert (normalize(one, chosen), json.dumps(one)) == (normalize(other, chosen), json.dumps(other))


@given(st.dictionaries(st.sampled_from(["name", "place"]), st.text("ab🏰", min_size=1, max_size=5), min_size=2))
def test_valid_values_pass_byte_for_byte(poi: JSON) -> None:
    made = outcome(**poi)
    before = json.dumps(made)
    assert normalize(made, rules(FULL, {**FULL, "path": "/intents/poi/place"})) == []
    assert json.dumps(made) == before
    assert not is_empty(poi["name"])

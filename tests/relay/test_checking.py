"""What a model wrote is judged by the schema of its contract: in words, without quoting it, and in bounded time."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_relay.turns.checking import (
    ENDLESS,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_PROBLEMS,
    MAX_VALUES,
    Checker,
    Unreadable,
    read_intents,
)  # fmt: skip
from support.contracts import CONTRACT

JSON = dict[str, Any]
SECRET = "what-the-model-said"


def problems(intents: Any, narrative: Any = "Dark.") -> list[str]:
    return Checker(CONTRACT["schema"]).problems({"narrative": narrative, "intents": intents})


def test_an_outcome_that_fits_has_no_problems() -> None:
    assert problems({}) == []
    assert problems({"poi": {"name": None, "action": "none"}, "pois": [{"name": "Mill", "action": "create"}]}) == []


@pytest.mark.parametrize(
    ("intents", "said"),
    [
        ({"poi": {"name": SECRET}}, "/intents/poi lacks action (required)"),
        (
            {"poi": {"name": 5, "action": "none"}},
            '/intents/poi/name must be of type ["string","null"], is integer (type)',
        ),
        ({"poi": {"name": "", "action": SECRET}}, '/intents/poi/action must be one of ["create","none"] (enum)'),
        (
            {"pois": [{"name": "", "action": "none"}, SECRET]},
            '/intents/pois/1 must be of type "object", is string (type)',
        ),
        ({"mood": SECRET}, "/intents/mood must be null (const)"),
        ([SECRET], '/intents must be of type "object", is array (type)'),
    ],
)
def test_a_problem_has_its_place_and_its_rule_and_never_what_was_said(intents: Any, said: str) -> None:
    assert problems(intents) == [said]
    assert SECRET not in said


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({"maxLength": 2}, SECRET, "it has 19 characters, at most 2 (maxLength)"),
        ({"minItems": 2}, [1], "it has 1 items, at least 2 (minItems)"),
        ({"maximum": 2}, 3, "it must be at most 2 (maximum)"),
        ({"pattern": "^a"}, SECRET, 'it must match "^a" (pattern)'),
        ({"uniqueItems": True}, [1, [SECRET], [SECRET]], "it has an item twice (uniqueItems)"),
        ({"additionalProperties": False}, {SECRET: 1}, "it has a field that is not declared (additionalProperties)"),
        ({"anyOf": [{"type": "null"}]}, SECRET, "it fits none of the forms (anyOf)"),
        ({"properties": {"a": False}}, {"a": SECRET}, "it has what may not be there"),
        ({"contains": {"type": "null"}}, [SECRET], "it breaks its schema (contains)"),
    ],
)
def test_every_rule_has_words(schema: JSON, value: Any, said: str) -> None:
    assert Checker(schema, "it").problems(value) == [said]


def test_problems_are_few_and_short() -> None:
    found = problems({"pois": [{"name": 1} for _ in range(5000)]})
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == "and more"
    keys = "k\n\u202e" * 400
    (told,) = Checker({"additionalProperties": {"type": "null"}}).problems({keys: 1})
    assert len(told) < 250
    assert told.isprintable()


def test_a_schema_that_does_not_end_is_said_and_kills_nobody() -> None:
    assert Checker({"$ref": "#"}).problems({}) == [ENDLESS]
    assert Checker({"$ref": "#/$defs/gone"}).problems({}) == ["the schema refers to what is not there: /$defs/gone"]
    assert "not there" in Checker({"$ref": "http://127.0.0.1:1/schema"}).problems({})[0]


def test_many_items_that_must_differ_take_no_square_of_their_number() -> None:
    items = [{"n": n} for n in range(MAX_VALUES // 2)]
    assert Checker({"uniqueItems": True}).problems(items) == []


# Reading


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the intents are not JSON"),
        ("{", "the intents are not JSON"),
        (f'{{"a": {SECRET}}}', "the intents are not JSON"),
        ("[]", "the intents are not an object"),
        ("null", "the intents are not an object"),
        (nested(MAX_DEPTH), f"the intents nest deeper than {MAX_DEPTH} levels"),
        (nested(20_000), "the intents are not JSON that we can read"),
        (json.dumps({"a": [0] * MAX_VALUES}), f"or have more than {MAX_VALUES} values"),
        (json.dumps({"a": "x" * MAX_BYTES}), f"the intents are longer than {MAX_BYTES} bytes"),
        ('{"a": 1}}', "the intents are not JSON"),
        ('{"a": NaN}', "the intents are not JSON"),
    ],
    ids=lambda text: text[:12],
)
def test_what_cannot_be_judged_is_refused_without_quoting_it(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why) as caught:
        read_intents(text)
    assert SECRET not in str(caught.value)


@given(
    st.dictionaries(
        st.text(max_size=3),
        st.recursive(st.none() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2)),
        max_size=3,
    )
)
def test_what_can_be_judged_is_read_as_it_is(intents: JSON) -> None:
    assert read_intents(json.dumps(intents)) == intents


def test_the_deepest_that_is_read_can_be_judged_by_a_schema_that_follows_it() -> None:
    deepest = read_intents(nested(MAX_DEPTH - 1))
    everywhere = {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "integer"}]}}}
    assert Checker(everywhere).problems(deepest) == []

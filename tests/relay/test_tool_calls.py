"""Calls are found in what a model says, however it is cut; what is none is text, and nothing of it is lost."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract.tools import CLOSING, OPENING
from rhapsode_relay.openai.tool_calls import NEVER, Call, Calling, Part, read_whole

TAGS = Calling("tags")
SING = '{"name": "sing", "arguments": {"key": "C"}}'
CALL = Call("sing", '{"key": "C"}')
TAGGED = f"{OPENING}\n{SING}\n{CLOSING}"
BITS = st.sampled_from(
    [
        OPENING,
        CLOSING,
        SING,
        TAGGED,
        "<",
        "<tool",
        "_call>",
        "</",
        ">",
        "\n",
        " ",
        "a",
        "é🌅",
        '{"name":',
        "<tool_call",
    ]
)


def read(calling: Calling, *pieces: str) -> list[Part]:
    """Return what a reader makes of pieces, adjacent texts as one."""
    reader = calling.reader
    parts = [part for piece in pieces for part in reader.push(piece)] + reader.end()
    joined: list[Part] = []
    for is_call, group in itertools.groupby(parts, key=lambda part: isinstance(part, Call)):
        found = list(group)
        joined += found if is_call else ["".join(map(str, found))]
    return joined


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[begin:end] for begin, end in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    ("said", "parts"),
    [
        (TAGGED, [CALL]),
        (f"\n\n{TAGGED}\n", [CALL]),
        (f"I sing.\n{TAGGED}", ["I sing.\n", CALL]),
        (f"{TAGGED}\n{TAGGED}", [CALL, CALL]),
        (f"{TAGGED} and {TAGGED}", [CALL, " and ", CALL]),
        (OPENING + '{"name":"rest"}' + CLOSING, [Call("rest", "{}")]),
        (OPENING + '{"arguments":"{\\"a\\":1}","name":"rest"}' + CLOSING, [Call("rest", '{"a":1}')]),
        ("", []),
        (" \n", [" \n"]),
        ("a < b <tool> <<tool_call", ["a < b <tool> <<tool_call"]),
    ],
)
def test_calls_are_told_from_the_text_around_them(said: str, parts: list[Part]) -> None:
    assert read(TAGS, said) == parts


@pytest.mark.parametrize("said", [SING, "none"])
def test_the_longest_text_is_read_in_no_time(said: str) -> None:
    """Everyone else waits while it is."""
    content, calls = read_whole(TAGS, f"{OPENING}{said}{CLOSING}" * 60_000)
    assert len(calls) == (60_000 if said == SING else 0)
    assert content == (None if said == SING else f"{OPENING}{said}{CLOSING}" * 60_000)


@pytest.mark.parametrize(
    "inside",
    [
        "", "no JSON", "[]", "{}", '{"name":""}', '{"name":5,"arguments":{}}', '{"name":"no spaces","arguments":{}}',
        '{"name":"a","arguments":[1]}', '{"name":"a","arguments":"no JSON"}', '{"name":"a","arguments":null}',
        '{"name":"a","arguments":{}', '{"name":"a"} {"name":"b"}', "[" * 100_000, OPENING, TAGGED[:-1],
        '{"name":"a","arguments":' + '{"a":' * 5000 + "1" + "}" * 5001,
    ],
)  # fmt: skip
def test_what_is_in_tags_and_is_no_call_is_text(inside: str) -> None:
    said = f" {OPENING}{inside}{CLOSING} "
    assert read(TAGS, *said) == read(TAGS, said) == [said]
    assert read(TAGS, said, TAGGED) == [said, CALL]


@pytest.mark.parametrize("begun", [OPENING, TAGGED[:-1], f"a{OPENING}{SING}", OPENING[:-1], "<"])
def test_a_tag_that_never_closes_is_text_in_the_end(begun: str) -> None:
    assert read(TAGS, *begun) == [begun]


def test_what_cannot_begin_a_tag_is_told_at_once() -> None:
    reader = TAGS.reader
    assert reader.push("a <") == ["a "]
    assert reader.push("tool_cal") == []
    assert reader.push("ma") == ["<tool_calma"]
    assert reader.push("b") == ["b"]


@given(said=st.lists(BITS).map("".join), places=st.lists(st.integers(0, 10_000)))
def test_it_matters_nowhere_how_a_text_is_cut(said: str, places: list[int]) -> None:
    whole = read(TAGS, said)
    assert read(TAGS, *cut(said, places)) == whole == read(TAGS, *said)
    assert read(Calling("whole"), *cut(said, places)) == read(Calling("whole"), said)


@given(said=st.lists(BITS).map("".join))
def test_nothing_is_lost_but_blanks_beside_calls(said: str) -> None:
    told = "".join(TAGGED if isinstance(part, Call) else part for part in read(TAGS, said))
    assert "".join(told.split()) == "".join(said.split())
    if CALL not in read(TAGS, said):
        assert told == said


def test_without_parallel_calls_only_the_first_is_told() -> None:
    assert read(Calling("tags", parallel=False), f"a{TAGGED}\n{TAGGED} b") == ["a", CALL, " b"]


@pytest.mark.parametrize(
    ("said", "content", "calls"),
    [
        (SING, None, [CALL]),
        (SING[:-1], SING[:-1], []),
        ("", "", []),
    ],
)
def test_where_a_tool_must_be_called_the_answer_is_the_call_or_a_piece_of_it(
    said: str, content: str | None, calls: list[Call]
) -> None:
    assert read_whole(Calling("whole"), said) == (content, calls)


def test_an_answer_without_tools_is_taken_as_it_is() -> None:
    assert read_whole(NEVER, TAGGED) == (TAGGED, [])
    assert read_whole(TAGS, TAGGED) == (None, [CALL])
    assert read_whole(TAGS, f"a {TAGGED}") == ("a ", [CALL])


def test_a_long_answer_in_small_pieces_costs_no_more_than_in_one() -> None:
    """A reader that looked at all of it again with each piece would take minutes for this."""
    said = OPENING + '{"name":"sing","arguments":{"verse":"' + "la " * 200_000 + '"}}' + CLOSING
    (call,) = read(TAGS, *said)
    assert isinstance(call, Call)
    assert len(json.loads(call.arguments)["verse"]) == 600_000
    assert read(TAGS, *" \n" * 200_000) == [" \n" * 200_000]

"""A journal gives every reader the same events in the same order, wherever and in whatever bites it reads.

Case matrix: what is written (single tokens, joined ones, texts of several tokens, other events) × where a reader
begins (start, end, any seq) × which channels × what leaves the window.
"""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhapsode_contract import events
from rhapsode_contract.frames import TOKEN_SEPARATOR
from rhapsode_relay import journal as module
from rhapsode_relay.encoding import StreamEncoder
from rhapsode_relay.journal import ALWAYS, EVERYTHING, NARRATION, TOKEN, Cursor, Evicted, Journal

texts = st.text('ab é🌅\n"\\', min_size=1, max_size=4)
writes = st.lists(
    st.one_of(
        st.tuples(st.just("one"), texts),
        st.tuples(st.just("joined"), st.lists(texts, min_size=2, max_size=5)),
        st.tuples(st.just("literal"), texts, st.integers(2, 4)),
        st.tuples(st.just("probable"), texts, st.integers(1, 3)),
        st.tuples(st.just("separator"), st.just(f"a{TOKEN_SEPARATOR}b")),
        st.tuples(st.just("event"), st.sampled_from([NARRATION, ALWAYS])),
    ),
    max_size=25,
)


def make_journal() -> Journal:
    return Journal(StreamEncoder("w-1", "e1", "c1"))


def write(journal: Journal, what: tuple[Any, ...], i: int) -> int:
    """Write one thing; return the next token's number."""
    match what:
        case ("one" | "separator", text):
            journal.add_token(text, i)
            return i + 1
        case ("joined", several):
            journal.add_tokens(TOKEN_SEPARATOR.join(several), len(several), i)
            return i + len(several)
        case ("literal", text, count):
            journal.add_token(text, i, count)
            return i + int(count)
        case ("probable", text, count):
            return i + journal.add_probable(text, i, count, (-0.5,) * count)
        case ("event", channel):
            journal.add(events.Queued(seq=0, position=0), channel)
    return i


def fill(journal: Journal, what: list[tuple[Any, ...]]) -> str:
    """Write everything; return the text."""
    i, text = 0, ""
    for one in what:
        i = write(journal, one, i)
        if one[0] == "joined":
            text += "".join(one[1])
        elif one[0] != "event":
            text += one[1]
    return text


def drain(journal: Journal, cursor: Cursor, mask: int = EVERYTHING) -> list[dict[str, Any]]:
    """Return all events after a cursor."""
    data = b""
    while chunk := journal.read(cursor, mask):
        data += chunk
    return [json.loads(block.split(b"data: ")[1]) for block in data.split(b"\n\n")[:-1]]


@given(writes)
def test_a_reader_from_the_start_gets_everything_once_and_in_order(what: list[tuple[Any, ...]]) -> None:
    journal = make_journal()
    text = fill(journal, what)
    seen = drain(journal, journal.start())
    assert [event["seq"] for event in seen] == list(range(1, journal.head + 1))
    assert "".join(event["t"] for event in seen if event["type"] == "token") == text == journal.text()
    i = 0
    for event in seen:
        if event["type"] == "token":
            assert event["i"] == i
            i += event.get("count", 1)


@given(writes, st.data())
def test_a_reader_that_was_away_gets_exactly_what_it_lacks(what: list[tuple[Any, ...]], data: st.DataObject) -> None:
    journal = make_journal()
    fill(journal, what)
    everything = drain(journal, journal.start())
    seq = data.draw(st.integers(0, journal.head))
    cursor = journal.seek(seq)
    assert cursor is not None
    assert drain(journal, cursor) == everything[seq:]


@given(writes, writes)
def test_a_reader_that_reads_as_it_is_written_misses_nothing(
    first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]
) -> None:
    journal = make_journal()
    live, late = journal.start(), journal.end()
    seen: list[dict[str, Any]] = []
    i = 0
    for one in first + second:
        i = write(journal, one, i)
        seen += drain(journal, live)
    assert seen == drain(journal, journal.start()) == drain(journal, late)


@given(writes)
def test_channels_filter_and_keep_the_numbers(what: list[tuple[Any, ...]]) -> None:
    journal = make_journal()
    fill(journal, what)
    everything = drain(journal, journal.start())
    tokens = drain(journal, journal.start(), TOKEN)
    assert tokens == [event for event in everything if event["type"] == "token"]
    others = drain(journal, journal.start(), EVERYTHING & ~TOKEN)
    assert others == [event for event in everything if event["type"] != "token"]


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(20, 200))
def test_what_leaves_the_window_is_gone_for_cursors_but_not_for_the_text(tokens: int, window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WINDOW_EVENTS", window)
        patch.setattr(module, "RUN_TOKENS", 8)
        journal = make_journal()
        stale = journal.start()
        for i in range(tokens):
            journal.add_token(f"{i} ", i)
        assert journal.head - journal.oldest + 1 <= window
        assert journal.text() == "".join(f"{i} " for i in range(tokens))
        if journal.oldest > 1:
            assert journal.seek(journal.oldest - 2) is None
            with pytest.raises(Evicted):
                journal.read(stale)
        cursor = journal.seek(journal.oldest - 1)
        assert cursor is not None
        assert [event["seq"] for event in drain(journal, cursor)] == list(range(journal.oldest, tokens + 1))


def test_the_window_is_bounded_by_bytes_too() -> None:
    journal = make_journal()
    for i in range(300):
        journal.add_token("x" * 60_000, i)
    assert journal.bytes <= module.WINDOW_BYTES
    assert len(journal.text()) == 300 * 60_000


@pytest.mark.parametrize("seq", [-1, 4, 10**9])
def test_a_cursor_that_never_was_is_none(seq: int) -> None:
    journal = make_journal()
    fill(journal, [("one", "a"), ("one", "b"), ("event", ALWAYS)])
    assert journal.seek(seq) is None


def test_only_the_latest_of_what_supersedes_is_kept() -> None:
    journal = make_journal()
    for percent in (10.0, 20.0, 30.0):
        journal.add(events.Load(seq=0, stage="weights", percent=percent), supersede="load")
    assert [event["percent"] for event in drain(journal, journal.start())] == [30.0]


def test_a_journal_that_begins_later_keeps_the_text_it_was_given() -> None:
    journal = Journal(StreamEncoder("w-1", "e2", "c1"), seq=1_000_005, text="Hello")
    journal.add_token(" you", 2)
    assert journal.text() == "Hello you"
    assert journal.seek(3) is None
    assert drain(journal, journal.start())[0]["seq"] == 1_000_006


class Bell:
    rings = 0

    def ring(self) -> None:
        self.rings += 1


def test_readers_that_go_in_step_share_one_encoding() -> None:
    journal = make_journal()
    journal.listeners |= {Bell(), Bell()}
    one, two = journal.start(), journal.start()
    journal.add_token("a", 0)
    assert journal.read(one) is journal.read(two)
    journal.ring()
    assert [bell.rings for bell in journal.listeners if isinstance(bell, Bell)] == [1, 1]

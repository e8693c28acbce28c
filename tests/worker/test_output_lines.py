"""What a process prints, cut into lines, whatever it prints."""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from rhapsode_worker.load_signs import MARKERS, read_sign
from rhapsode_worker.output_lines import MAX_BYTES, MAX_CHARS, LastLines, Line, LineCutter

SPICE = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\x1b[31m",
    b"\x1b]0;title\x07",
    b"\xff\xfe",
    "█".encode(),
    b"x" * 5000,
    b"\x00",
    b"7/15 [",
]
OUTPUT = st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(SPICE)), max_size=60)


def cut(*blocks: bytes) -> list[Line]:
    cutter = LineCutter()
    return [line for block in blocks for line in cutter.push(block)] + cutter.end()


@given(OUTPUT)
def test_whatever_is_printed_the_lines_are_short_and_safe(blocks: list[bytes]) -> None:
    for line in cut(*blocks):
        assert 0 < len(line.text) <= MAX_CHARS
        assert line.text.isprintable() or " " in line.text or "\ufffd" in line.text
        assert not set(line.text) & set("\r\n\x1b\x00")
        read_sign(line.text)


@given(st.lists(st.text("abc█ ", min_size=1, max_size=30).filter(str.strip), max_size=10), st.integers(1, 7))
def test_lines_come_whole_however_they_are_torn(said: list[str], size: int) -> None:
    data = "".join(f"{text}\n" for text in said).encode()
    told = cut(*(data[at : at + size] for at in range(0, len(data), size)))
    assert [line.text for line in told] == [text.strip() for text in said]


def test_a_bar_that_paints_over_itself_is_one_line_of_each_piece_of_output() -> None:
    bars = [f"\rLoading weights:  {at}/801 [00:01<00:05]" for at in range(802)]
    cutter = LineCutter()
    told = cutter.push("".join(bars).encode())
    assert told == [Line("Loading weights:  801/801 [00:01<00:05]", passing=True)]
    assert cutter.push(b"\nthen\n") == [Line(told[0].text), Line("then")]


def test_the_last_lines_keep_what_explains_an_end_and_one_state_of_a_bar() -> None:
    last = LastLines(3)
    for line in ("first", "second"):
        last.keep([Line(line)])
    for at in range(1000):
        last.keep([Line(f"{at}/1000", passing=True)])
    assert last.texts() == ["first", "second", "999/1000"]
    last.keep([Line("RuntimeError: no")])
    assert last.texts() == ["first", "second", "RuntimeError: no"]


def test_colours_and_titles_leave_nothing_behind() -> None:
    assert cut(b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain\x1b[K\n") == [Line("red plain")]


def test_a_line_without_an_end_costs_no_more_memory_than_a_line() -> None:
    cutter = LineCutter()
    for _ in range(100):
        assert cutter.push(b"x" * 65_536) == []
    assert cutter.push(b"\nnext\n") == [Line("x" * (MAX_CHARS - 1) + "…"), Line("next")]
    assert MAX_BYTES >= MAX_CHARS


@given(
    st.lists(
        st.sampled_from([marker.pattern for _, marker in MARKERS] + ["9" * 400, "/", " [", "<", ":", "GiB"]),
        max_size=8,
    )
)
def test_lines_that_look_like_signs_are_no_danger(parts: list[str]) -> None:
    for line in accumulate(parts):
        sign = read_sign(line[:MAX_CHARS])
        assert sign is None or sign.fraction is None or 0 <= sign.fraction <= 1

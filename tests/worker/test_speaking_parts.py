"""The worker's parts that make text: what may be said, and what is joined."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import frames
from rhapsode_contract.frames import TOKEN_SEPARATOR, encode_frame
from rhapsode_contract.names import MAX_FRAME_BYTES
from rhapsode_worker.composing import ByteDecoder, Composer, IdDecoder, Piece
from rhapsode_worker.joining import join_tokens, text_in, tokens_in

pieces = st.lists(st.text("ab#é", max_size=3), max_size=20)
stops = st.lists(st.text("ab#é", min_size=1, max_size=4), max_size=3)


@given(pieces, stops)
def test_a_composer_says_exactly_what_stands_before_the_first_stop_string(
    said: list[str], unwanted: list[str]
) -> None:
    composer = Composer(unwanted)
    out = []
    for text in said:
        if composer.stopped:
            break
        if piece := composer.push(text):
            out.append(piece)
    if not composer.stopped and (rest := composer.flush()):
        out.append(rest)
    whole = "".join(said)
    found = [whole.find(stop) for stop in unwanted if stop in whole]
    spoken = "".join(piece.text for piece in out)
    assert not any(stop in spoken for stop in unwanted)
    assert composer.stopped == bool(found)
    if found:
        assert whole.startswith(spoken)
        assert any(whole[len(spoken) :].startswith(stop) for stop in unwanted)
    else:
        assert spoken == whole
    assert sum(piece.tokens for piece in out) <= len(said)
    assert all(piece.text for piece in out)


def test_without_stop_strings_nothing_is_held_back() -> None:
    composer = Composer([])
    assert composer.push("a") == Piece("a", 1)
    assert composer.push("") is None
    assert composer.push("b") == Piece("b", 2), "the token without a text is counted with the next"


@given(st.text(), st.integers(1, 5))
def test_bytes_become_text_wherever_they_are_cut(text: str, size: int) -> None:
    text = text.encode(errors="ignore").decode()
    decoder, raw = ByteDecoder(), text.encode()
    assert "".join(decoder.push(raw[at : at + size]) for at in range(0, len(raw), size)) == text


@pytest.mark.parametrize("half", ["", "\ufffd"], ids=["nothing", "replacement"])
def test_token_ids_become_text_though_half_a_character_looks_like_nothing(half: str) -> None:
    vocabulary = {index: bytes([byte]) for index, byte in enumerate("naïve 🌅 日本".encode())}

    def decode(ids: list[int]) -> str:
        return b"".join(vocabulary[one] for one in ids).decode(errors="replace").replace("\ufffd", half)

    decoder = IdDecoder(decode)
    texts = [decoder.push(index) for index in vocabulary]
    assert "".join(texts) == "naïve 🌅 日本"
    assert "\ufffd" not in "".join(texts)


# Joining


token_frames = st.builds(
    frames.Token,
    job_id=st.just("a-1"),
    i=st.integers(0, 6),
    t=st.text("ab\x7f", min_size=1, max_size=3),
    count=st.sampled_from([1, 1, 1, 2]),
)


@given(st.lists(st.tuples(st.text("ab\x7f", min_size=1, max_size=3), st.sampled_from([1, 1, 1, 2])), max_size=15))
def test_joined_tokens_are_the_same_tokens(said: list[tuple[str, int]]) -> None:
    i, joined, original = 0, list[frames.Token](), list[tuple[int, str, int]]()
    for text, count in said:
        frame = frames.Token(job_id="a-1", i=i, t=text, count=count)
        original.append((i, text, count))
        i += count
        if not joined or not join_tokens(joined[-1], frame):
            joined.append(frame)
    again = []
    for frame in joined:
        texts = frame.ts.split(TOKEN_SEPARATOR) if frame.ts else [frame.t]
        at = frame.i
        for text in texts:
            again.append((at, text, frame.count))
            at += frame.count
        assert tokens_in(frame) == at - frame.i
    assert again == original
    assert "".join(map(text_in, joined)) == "".join(text for text, _ in said)


@given(token_frames, token_frames)
def test_only_neighbours_are_joined(first: frames.Token, second: frames.Token) -> None:
    end = first.i + tokens_in(first)
    if join_tokens(first, second):
        assert second.i == end


def test_a_joined_frame_always_fits_into_a_line() -> None:
    last = frames.Token(job_id="a-1", i=0, t="\x01")
    i = 1
    while join_tokens(last, frames.Token(job_id="a-1", i=i, t="\x01")):
        i += 1
    assert len(encode_frame(last)) < MAX_FRAME_BYTES

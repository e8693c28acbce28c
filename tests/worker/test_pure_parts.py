"""The worker's parts that decide: what may be said, what is joined, what is owed, what is worth telling."""

import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import frames
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.frames import TOKEN_SEPARATOR, encode_frame
from rhapsode_contract.names import MAX_FRAME_BYTES
from rhapsode_worker.composing import ByteDecoder, Composer, IdDecoder
from rhapsode_worker.engines.simulating import Script, read_script, simulated_text, words_of
from rhapsode_worker.errors import LoadError
from rhapsode_worker.history import remember_times, usual_times
from rhapsode_worker.joining import join_tokens, text_in, tokens_in
from rhapsode_worker.ledger import KEEP_OVER_S, Ledger
from rhapsode_worker.outbox import MAX_WAITING_NARRATIONS, Outbox
from rhapsode_worker.tracking import PROGRESS_S, SILENCE_S, LoadTracker
from rhapsode_worker.weighing import read_resident_bytes, resident_bytes

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
    assert composer.push("a") == ("a", 1)
    assert composer.push("") is None
    assert composer.push("b") == ("b", 2), "the token without a text is counted with the next"


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


# The outbox


class Relay:
    """Takes what an outbox writes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.due: list[object] = []
        self.outbox = Outbox(self.written.append, self.due.append)

    def turn(self) -> list[frames.WorkerFrame]:
        """End a turn of the event loop; return what was written in it."""
        due, self.due[:] = self.due[:], []
        for call in due:
            assert callable(call)
            call()
        data = b"".join(self.written)
        self.written.clear()
        return list(msgspec.json.Decoder(frames.WorkerFrame).decode_lines(data))


def token(i: int, text: str = "x", job_id: str = "a-1") -> frames.Token:
    return frames.Token(job_id=job_id, i=i, t=text)


def test_frames_of_one_turn_leave_in_one_write_in_order() -> None:
    relay = Relay()
    relay.outbox.put(frames.Prefill(job_id="a-1", prompt_tokens=1))
    for i in range(3):
        relay.outbox.put(token(i))
    relay.outbox.put(narrate("tokens", {"tokens": 3}, job_id="a-1"))
    relay.outbox.put(token(3))
    assert len(relay.written) == 0
    assert [type(frame).__name__ for frame in relay.turn()] == ["Prefill", "Token", "Narration", "Token"]


def test_a_narration_about_tokens_stays_behind_them() -> None:
    relay = Relay()
    relay.outbox.put(token(0))
    relay.outbox.put(narrate("tokens", {"tokens": 1}, job_id="a-1"))
    relay.outbox.put(token(1))
    first, said, second = relay.turn()
    assert isinstance(said, frames.Narration)
    assert isinstance(first, frames.Token)
    assert isinstance(second, frames.Token)
    assert (first.i, second.i) == (0, 1)


def test_jobs_are_joined_each_for_itself() -> None:
    relay = Relay()
    for i in range(4):
        relay.outbox.put(token(i, "a", "a-1"))
        relay.outbox.put(token(i, "b", "b-1"))
    told = relay.turn()
    assert len(told) == 2
    assert {frame.job_id: text_in(frame) for frame in told if isinstance(frame, frames.Token)} == {
        "a-1": "aaaa",
        "b-1": "bbbb",
    }


def test_a_slow_relay_loses_no_token_and_narration_that_is_dropped_is_counted() -> None:
    relay = Relay()
    relay.outbox.pause()
    for i in range(3000):
        relay.outbox.put(token(i, f"{i} "))
        relay.outbox.put(narrate("tokens", {"tokens": i}, job_id="b-1"))
    assert relay.turn() == []
    relay.outbox.resume()
    told = relay.turn()
    assert "".join(text_in(frame) for frame in told if isinstance(frame, frames.Token)) == "".join(
        f"{i} " for i in range(3000)
    )
    said = [frame for frame in told if isinstance(frame, frames.Narration)]
    assert len(said) == MAX_WAITING_NARRATIONS
    relay.outbox.put(narrate("tokens", {"tokens": 1}, job_id="b-1"))
    (after,) = relay.turn()
    assert isinstance(after, frames.Narration)
    assert after.dropped == 2000


def test_the_caller_keeps_its_frame_as_it_was() -> None:
    relay = Relay()
    mine = token(0)
    relay.outbox.put(mine)
    relay.outbox.put(token(1))
    assert (mine.t, mine.ts) == ("x", "")


# The ledger


def command(job_id: str) -> frames.Generate:
    return frames.Generate(job_id=job_id, max_tokens=9, correlation_id="c1", prompt="x", meta={"k": job_id})


def introduce(ledger: Ledger) -> list[frames.WorkerFrame]:
    return ledger.introduction(frames.Hello(proto=1, boot_id="b", engine="E", model="m"))


def retold(told: list[frames.WorkerFrame]) -> dict[str, str]:
    """Return the texts of all jobs as a new relay hears them."""
    texts: dict[str, str] = {}
    tokens: dict[str, int] = {}
    for frame in told:
        if isinstance(frame, frames.Hello | frames.Resume):
            for state in frame.jobs if isinstance(frame, frames.Hello) else [frame.job]:
                texts[state.job_id], tokens[state.job_id] = state.text, state.tokens
        elif isinstance(frame, frames.Token):
            assert frame.i == tokens[frame.job_id], "no gap and nothing twice"
            texts[frame.job_id] += text_in(frame)
            tokens[frame.job_id] += tokens_in(frame)
    return texts


@given(
    st.lists(st.tuples(st.sampled_from(["a-1", "b-1"]), st.text("xé🌅\x01", min_size=1, max_size=2000)), max_size=40)
)
def test_a_new_relay_is_told_every_text_whole_in_frames_that_fit(said: list[tuple[str, str]]) -> None:
    ledger, texts, at = Ledger(), {"a-1": "", "b-1": ""}, {"a-1": 0, "b-1": 0}
    for job_id in texts:
        ledger.open(command(job_id))
    for job_id, text in said:
        assert ledger.note(token(at[job_id], text, job_id), 0)
        texts[job_id] += text
        at[job_id] += 1
    told = introduce(ledger)
    assert retold(told) == texts
    assert max(len(encode_frame(frame)) for frame in told) <= MAX_FRAME_BYTES


def test_a_thousand_jobs_fit_into_frames_too() -> None:
    ledger = Ledger()
    for number in range(1000):
        ledger.open(command(f"job-{number}"))
        ledger.note(token(0, "hello ", f"job-{number}"), 0)
    told = introduce(ledger)
    assert len(retold(told)) == 1000
    assert max(len(encode_frame(frame)) for frame in told) <= MAX_FRAME_BYTES


def test_a_job_that_ended_is_kept_for_a_while_and_ends_again_for_a_new_relay() -> None:
    ledger = Ledger()
    ledger.open(command("a-1"))
    ledger.note(frames.Prefill(job_id="a-1", prompt_tokens=3), 0)
    ledger.note(token(0, "hi"), 0)
    finish = frames.Finish(job_id="a-1", stop_reason="stop", tokens_out=1)
    assert ledger.note(finish, 100)
    assert not ledger.note(token(1, "late"), 101), "nothing comes after the end"
    assert ledger.running() == []
    told = introduce(ledger)
    assert [type(frame).__name__ for frame in told] == ["Hello", "Prefill", "Finish"]
    ledger.forget_old(100 + KEEP_OVER_S + 1)
    assert introduce(ledger)[0] == frames.Hello(proto=1, boot_id="b", engine="E", model="m", jobs=[])
    assert (ledger.served, ledger.tokens) == (1, 1)


def test_what_belongs_to_no_job_of_ours_is_not_told() -> None:
    assert not Ledger().note(token(0, "x", "stranger-1"), 0)
    assert Ledger().note(frames.Load(stage="x"), 0)


# Loading


def said_of(stage: str, progress: float | None = None) -> frames.Narration:
    fields = {"stage": stage} if progress is None else {"stage": stage, "fraction": progress}
    return narrate("load_stage", fields, progress=progress)


def test_progress_is_told_four_times_a_second_and_never_goes_back() -> None:
    track = LoadTracker(0.0, {})
    told = [track.admit(said_of("weights", at / 100), at * 0.05) for at in range(100)]
    assert 19 <= sum(told) <= 26
    assert not track.admit(said_of("weights", 0.5), 10.0)
    assert track.admit(said_of("weights", 1.0), 10.01), "the end is always told"
    assert not track.admit(said_of("weights", 1.0), 20.0)
    assert track.admit(said_of("warm-up", 0.0), 20.0 + PROGRESS_S / 10), "another stage begins anew"


def test_silence_is_broken_with_what_goes_on_and_how_long_it_usually_takes() -> None:
    track = LoadTracker(0.0, {"compiling": 41.0})
    assert track.still(100.0) is None, "nothing goes on"
    track.admit(narrate("engine_build", {"model": "m", "device": "CPU"}), 100.0)
    assert track.still(100.0 + SILENCE_S - 0.1) is None
    said = track.still(100.0 + SILENCE_S)
    assert said is not None
    assert said.human == "Still compiling: 5 s (usually 41 s)"
    assert track.still(100.0 + SILENCE_S + 1) is None


def test_what_is_left_is_judged_by_last_time() -> None:
    track = LoadTracker(0.0, {"compiling": 40.0})
    said = narrate("engine_build", {"model": "m", "device": "CPU"})
    track.admit(said, 0.0)
    frame = track.load_frame(said, 10.0)
    assert frame == frames.Load(stage="compiling", percent=None, eta_s=30.0)
    assert track.finish(42.0) == {"compiling": 42.0}


def test_times_are_remembered_and_a_broken_file_is_no_matter(tmp_path: Path) -> None:
    assert usual_times(tmp_path, "k") == {}
    remember_times(tmp_path, "k", {"compiling": 4.2})
    remember_times(tmp_path, "other", {"compiling": 1.0})
    assert usual_times(tmp_path, "k") == {"compiling": 4.2}
    (tmp_path / "load-times.json").write_text("{broken")
    assert usual_times(tmp_path, "k") == {}
    remember_times(Path("/proc/nowhere"), "k", {"compiling": 1.0})


SMAPS = """7f00-7f10 r--p 00000000 08:01 42 /models/m.gguf
Size:              96088 kB
Rss:               41000 kB
7f10-7f20 r--p 00000000 08:01 42 /models/m.gguf
Rss:                1000 kB
7f20-7f30 r-xp 00000000 08:01 43 /lib/other.so
Rss:                9999 kB
"""


def test_the_kernel_says_how_much_of_a_file_was_read() -> None:
    assert resident_bytes(SMAPS, Path("/models/m.gguf")) == 42_000 * 1024
    assert resident_bytes(SMAPS, Path("/models/other.gguf")) is None
    assert read_resident_bytes(2**22 + 1, Path("/models/m.gguf")) is None


def test_a_mapping_of_this_very_process_is_seen(tmp_path: Path) -> None:
    import mmap
    import os

    path = tmp_path / "weights"
    path.write_bytes(b"x" * 8 * 2**20)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        before = read_resident_bytes(os.getpid(), path)
        assert sum(mapped[at] for at in range(0, len(mapped), 4096)) > 0
        after = read_resident_bytes(os.getpid(), path)
    assert before is not None
    assert after is not None
    assert before < after == 8 * 2**20


# The simulator's text and script


def test_the_simulators_text_is_a_function_of_seed_prompt_and_length() -> None:
    assert simulated_text(7, "hello", 50) == simulated_text(7, "hello", 50)
    assert simulated_text(7, "hello", 80).startswith(simulated_text(7, "hello", 50))
    assert len({simulated_text(seed, "hello", 20) for seed in range(20)}) == 20
    assert simulated_text(7, "hello", 12) == "".join(itertools.islice(words_of(7, "hello"), 12))
    assert simulated_text(0, "pinned", 8) == ' together\n by; harp "quoted" nighted', (
        "the same on every machine, for ever"
    )


def test_a_script_is_read_with_its_own_names() -> None:
    script = read_script(
        {
            "load": [{"stage": "a", "seconds": 1}],
            "tokensPerSecond": 9,
            "faults": [{"kind": "exit", "at": "a", "times": 1}],
        }
    )
    assert [fault.kind for fault in script.faults_at("a", attempt=1)] == ["exit"]
    assert script.faults_at("a", attempt=2) == []
    assert Script().tokens_per_second == 50


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokensPerSecond": -1}, "spec.engine.options.tokensPerSecond"),
        ({"load": [{"stage": ""}]}, "spec.engine.options.load[0].stage"),
        ({"faults": [{"kind": "explode", "at": "x"}]}, "spec.engine.options.faults[0].kind"),
        ({"faults": [{"kind": "exit"}]}, "spec.engine.options.faults[0] needs either 'at' or 'afterTokens'"),
        ({"faults": [{"kind": "exit", "at": "nowhere"}]}, "spec.engine.options.faults[0].at names no stage of load"),
        ({"speed": 1}, "speed"),
    ],
)
def test_a_script_that_cannot_be_played_is_refused_by_name(options: dict[str, object], words: str) -> None:
    with pytest.raises(LoadError) as caught:
        read_script(options)
    assert words in str(caught.value)
    assert caught.value.reason == "BadEngineOption"

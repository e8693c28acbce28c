"""The worker's parts that tell the relay: what leaves in one write, and what is owed to a new relay."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import frames
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.frames import encode_frame
from rhapsode_contract.names import MAX_FRAME_BYTES
from rhapsode_worker.joining import text_in, tokens_in
from rhapsode_worker.ledger import KEEP_OVER_S, Ledger
from rhapsode_worker.outbox import MAX_WAITING_NARRATIONS, Outbox

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


def test_of_vram_only_the_latest_waits_for_a_relay_that_does_not_read() -> None:
    relay = Relay()
    relay.outbox.pause()
    for used in range(100):
        gpu = frames.Gpu(uuid="GPU-1", name="H100", total_bytes=100, used_bytes=used)
        relay.outbox.put(frames.Vram(source="nvml", gpus=[gpu]))
    relay.outbox.resume()
    assert [frame.gpus[0].used_bytes for frame in relay.turn() if isinstance(frame, frames.Vram)] == [99]


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


def test_a_new_relay_is_told_how_probable_tokens_were_in_frames_that_are_never_joined() -> None:
    ledger, relay = Ledger(), Relay()
    ledger.open(command("a-1"))
    said = [frames.Token(job_id="a-1", i=at, t="x", lp=(-at / 4,)) for at in range(4)]
    for frame in said:
        ledger.note(frame, 0)
        relay.outbox.put(frame)
    told = introduce(ledger)
    assert [frame for frame in told if isinstance(frame, frames.Token)] == said == relay.turn()
    assert retold(told) == {"a-1": "xxxx"}


def test_a_thousand_jobs_fit_into_frames_too() -> None:
    ledger = Ledger()
    for number in range(1000):
        ledger.open(command(f"job-{number}"))
        ledger.note(token(0, "hello ", f"job-{number}"), 0)
    told = introduce(ledger)
    assert isinstance(told[0], frames.Hello)
    assert 0 < told[0].resumes == sum(isinstance(frame, frames.Resume) for frame in told)
    assert len(retold(told)) == 1000
    assert max(len(encode_frame(frame)) for frame in told) <= MAX_FRAME_BYTES


def test_jobs_of_which_much_is_to_be_remembered_fit_too() -> None:
    """A character may take four bytes, or six where JSON escapes it."""
    ledger = Ledger()
    for number in range(20):
        noted = command(f"job-{number}")
        noted.meta = {"note": {"metadata": {"a": "\U0001f600" * 2000, "b": "\x01" * 1000}}}
        ledger.open(noted)
        ledger.note(token(0, "hello ", f"job-{number}"), 0)
    told = introduce(ledger)
    assert retold(told) == {f"job-{number}": "hello " for number in range(20)}
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

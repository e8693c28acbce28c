"""How a journal is told as a response: the same from every number on, however its tokens came and are read."""

from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import events, frames
from rhapsode_contract.openai_responses import OutputMessage, ResponseEvent
from rhapsode_relay import journal as journal_module
from rhapsode_relay.dialects.splitting import split_events
from rhapsode_relay.jobs import Job
from rhapsode_relay.openai.response_states import Note, ResponseState
from rhapsode_relay.openai.responses import ResponseEvents
from rhapsode_relay.terms import JobTerms

JOB_ID = "sim-0123456789abcdef"
_decode = msgspec.json.Decoder(ResponseEvent).decode
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("token"), WORDS),
        st.tuples(st.just("tokens"), st.lists(st.sampled_from(["a", "ü", "\u2028", "\n"]), min_size=1, max_size=5)),
        st.tuples(st.just("several"), st.integers(2, 4)),
        st.tuples(st.just("narrate"), st.sampled_from(["queued", "half"])),
        st.tuples(st.just("place"), st.integers(0, 3)),
        st.tuples(st.just("start"), st.just(None)),
    ),
    max_size=25,
)
ENDS = st.sampled_from(["stop", "length", "lost", "cancelled", ""])


def play(steps: list[tuple[str, Any]], end: str) -> Job:
    """Return a job that lived like this."""
    job = Job(JOB_ID, "mwabcdef", JobTerms(correlation_id="c", max_tokens=1000, on_disconnect="cancel"))
    job.queue_at(0)
    for what, how in steps:
        if what == "token":
            job.hear(frames.Token(job_id=JOB_ID, i=job.tokens, t=how))
        elif what == "tokens":
            job.hear(frames.Token(job_id=JOB_ID, i=job.tokens, ts=frames.TOKEN_SEPARATOR.join(how)))
        elif what == "several":
            job.hear(frames.Token(job_id=JOB_ID, i=job.tokens, t="xyz", count=how))
        elif what == "narrate":
            job.tell(frames.Narration(human="so it is", action=how))
        elif what == "place":
            job.queue_at(how)
        else:
            job.start(frames.Prefill(job_id=JOB_ID, prompt_tokens=1), "sim", "sim")
    if end in ("stop", "length"):
        why = cast("frames.StopReason", end)
        job.finish(
            frames.Finish(job_id=JOB_ID, stop_reason=why, tokens_out=job.tokens, prompt_tokens=1, decode_time_ms=1)
        )
    elif end:
        job.fail("worker_lost" if end == "lost" else "cancelled", "so it is")
    return job


def tell(job: Job, after: int = -1, **wishes: Any) -> list[bytes]:
    """Return what a reader gets who begins at the journal's start, an event each."""
    dialect = ResponseEvents(
        ResponseState(JOB_ID, "sim", Note(created_at=1)), job.journal.text, after=after, **wishes
    )
    said = b"".join(dialect.tell(event) for chunk in job.journal.events() for event in split_events(chunk) if event)
    return [part + b"\n\n" for part in said.split(b"\n\n") if part]


def data_of(said: bytes) -> Any:
    name, _, data = said.strip().partition(b"\n")
    event = _decode(data.removeprefix(b"data: "))
    assert name.decode() == f"event: {event.__struct_config__.tag}"
    return event


@given(STEPS, ENDS)
def test_the_rest_after_every_number_is_the_rest(steps: list[tuple[str, Any]], end: str) -> None:
    job = play(steps, end)
    whole = tell(job)
    assert [data_of(said).sequence_number for said in whole] == list(range(len(whole)))
    for number in range(-1, len(whole) + 1):
        assert tell(job, number) == whole[number + 1 :]


@given(STEPS, ENDS)
def test_the_text_is_whole_and_the_last_event_says_how_it_ended(steps: list[tuple[str, Any]], end: str) -> None:
    job = play(steps, end)
    told = [data_of(said) for said in tell(job)]
    kinds = [event.__struct_config__.tag for event in told]
    assert kinds[0] == "response.created"
    deltas = "".join(event.delta for event in told if hasattr(event, "delta"))
    assert deltas == job.journal.text()
    last = {"stop": "completed", "length": "incomplete", "lost": "failed", "cancelled": "failed"}
    ends = [kind for kind in kinds if kind.removeprefix("response.") in last.values()]
    assert ends == ([f"response.{last[end]}"] if end else [])
    if end in ("stop", "length"):
        assert told[-1].response.output[0].content[0].text == deltas


@given(STEPS, ENDS, st.integers(-1, 30))
def test_narrations_leave_numbers_as_they_are(steps: list[tuple[str, Any]], end: str, after: int) -> None:
    job = play(steps, end)
    told = tell(job, after, narrates=True)
    assert [said for said in told if not said.startswith(b"event: relay.narration")] == tell(job, after)
    last = after
    for event in map(data_of, told):
        if event.__struct_config__.tag == "relay.narration":
            assert event.sequence_number == max(last, after)
        last = event.sequence_number


@given(STEPS)
def test_silence_and_a_break_name_the_last_number(steps: list[tuple[str, Any]]) -> None:
    job = play(steps, "")
    dialect = ResponseEvents(ResponseState(JOB_ID, "sim", Note(created_at=1)), job.journal.text)
    assert dialect.beat() == b"", "nothing was said yet that it could name"
    told = [data_of(said) for said in tell(job)]
    for chunk in job.journal.events():
        for event in split_events(chunk):
            assert event is not None
            dialect.tell(event)
    beat, broken = data_of(dialect.beat()), data_of(dialect.part())
    assert beat.sequence_number == broken.sequence_number == told[-1].sequence_number
    assert (broken.code, f"starting_after={broken.sequence_number}" in broken.message) == ("stream_interrupted", True)


def test_a_journal_that_lost_its_beginning_is_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "WINDOW_EVENTS", 100)
    monkeypatch.setattr(journal_module, "RUN_TOKENS", 10)
    job = play([("start", None), *[("token", "a")] * 300], "stop")
    assert not job.whole
    state = ResponseState(JOB_ID, "sim", Note(created_at=1))
    for chunk in job.journal.events():
        for event in split_events(chunk):
            assert event is not None
            state.hear(event)
    shown = state.show(job.journal.text())
    (message,) = shown.output
    assert isinstance(message, OutputMessage)
    assert (shown.status, message.content[0].text) == ("completed", "a" * 300)


def test_no_more_than_four_narrations_come_in_a_second() -> None:
    dialect = ResponseEvents(ResponseState(JOB_ID, "sim", Note(created_at=1)), lambda: "", narrates=True)
    said = b""
    for at in range(40):
        ts = f"2026-11-21T08:00:{at // 20:02d}.{at % 20 * 50:03d}Z"
        said += dialect.tell(
            events.Narration(seq=at, ts=ts, actor="worker", action="half", human=f"{at}", level="info")
        )
    told = [data_of(part) for part in said.split(b"\n\n") if part.startswith(b"event: relay.narration")]
    assert 0 < len(told) <= 2 * 4
    assert sum(1 + event.narration.dropped for event in told) <= 40

"""Our own stream read back for other protocols, and what becomes of one that has nothing to say yet."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import events
from rhapsode_relay.dialects.splitting import split_events
from rhapsode_relay.dialects.translating import failure_before, failure_of
from rhapsode_relay.encoding import StreamEncoder
from rhapsode_relay.journal import Journal
from rhapsode_relay.reading import HEARTBEAT, RETRY, Ending

# Reading our own stream


@given(st.lists(st.tuples(st.text(min_size=1), st.booleans()), max_size=50))
def test_events_are_read_back_as_they_were_written(steps: list[tuple[str, bool]]) -> None:
    journal = Journal(StreamEncoder("sim-1", "e", "c"))
    cursor = journal.start()
    heard: list[events.StreamEvent | None] = []
    for i, (text, reads) in enumerate(steps):
        journal.add_token(text, i)
        if reads:
            heard += split_events(journal.read(cursor))
    heard += split_events(journal.read(cursor))
    assert [(event.t, event.i) for event in heard if isinstance(event, events.Token)] == [
        (text, i) for i, (text, _) in enumerate(steps)
    ]


def test_heartbeats_are_told_from_events() -> None:
    journal = Journal(StreamEncoder("sim-1", "e"))
    journal.add(events.Queued(seq=0, position=0))
    opening = RETRY + journal.read(journal.start())
    assert [type(event) for event in split_events(opening)] == [events.Queued]
    assert list(split_events(HEARTBEAT)) == list(split_events(RETRY + HEARTBEAT)) == [None]
    assert list(split_events(b"")) == []


# Before the first words


async def test_what_makes_a_reader_fail_is_an_answer_at_once() -> None:
    first, ended = make_futures()
    ended.set_exception(RuntimeError("an event without words"))
    with pytest.raises(RuntimeError, match="without words"):
        await failure_before(first, ended, within_s=60)


async def test_a_relay_that_ends_before_the_first_word_is_a_status() -> None:
    first, ended = make_futures()
    ended.set_result("dismissed")
    failure = await failure_before(first, ended, within_s=60)
    assert failure is not None
    assert (failure.status, failure.code, failure.retryable) == (503, "server_shutdown", True)


async def test_who_has_something_to_say_or_is_over_without_a_word_does_not_fail() -> None:
    first, ended = make_futures()
    first.set_result(None)
    assert await failure_before(first, ended, within_s=60) is None
    first, ended = make_futures()
    ended.set_result("done")
    assert await failure_before(first, ended, within_s=60) is None


def make_futures() -> tuple[asyncio.Future[events.Error | None], asyncio.Future[Ending]]:
    loop = asyncio.get_running_loop()
    return loop.create_future(), loop.create_future()


# Errors


@pytest.mark.parametrize(
    ("code", "param", "retryable", "status"),
    [
        ("engine_error", None, True, 503),
        ("engine_error", None, False, 500),
        ("context_length_exceeded", "prompt", False, 400),
        ("cancelled", None, False, 409),
        ("cancelled", None, True, 409),
    ],
)
def test_whose_fault_it_was_says_the_status(code: str, param: str | None, retryable: bool, status: int) -> None:
    error = events.ErrorBody(message="m", type="server_error", code=code, param=param)
    failure = failure_of(error, retryable=retryable)
    assert (failure.status, failure.code, failure.param, failure.retryable) == (status, code, param, retryable)
    assert (failure.retry_after_s is not None) == (status == 503)

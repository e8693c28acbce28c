"""A WebSocket at a replica that does not have the job: its owner's stream, framed anew. Same messages, same codes."""

import json
import signal
from collections.abc import Iterator

import pytest

from rhapsode_contract import frames
from support.processes import wait_until
from support.replicas import Replica, forwarded, replicas, worker_of
from support.requests import post
from support.sockets import follow
from support.streams import names_of, text_of
from support.transports import SOCKET, essence, is_over, refusal


@pytest.fixture
def pair() -> Iterator[list[Replica]]:
    with replicas() as two:
        yield two


def ordered(replica: Replica) -> frames.Generate:
    """Ask a replica, and let its worker begin with "a" and "b"."""
    job_id = post(replica.relay, {"prompt": "x", "max_tokens": 1_000_000, "on_disconnect": "cancel"}).json()["job_id"]
    job = worker_of(replica).begin()
    assert job.job_id == job_id
    worker_of(replica).speak(job, "a", "b")
    return job


def test_messages_are_the_same_at_every_replica(pair: list[Replica]) -> None:
    job = ordered(pair[0])
    with follow(pair[1].port, job.job_id) as there, follow(pair[0].port, job.job_id) as here:
        assert there.next("token").data["t"] == "a", "it is there at once"
        here.next("token")
        worker_of(pair[0]).finish(job, 2)
        rest = there.rest()
        assert list(map(essence, rest)) == list(map(essence, here.rest()))
    assert is_over(there)
    with follow(pair[1].port, job.job_id, rest[0].id) as again:
        assert names_of(again.rest()) == ["replay", *names_of(rest[1:])]
    with follow(pair[1].port, job.job_id, rest[-1].id) as complete:
        assert complete.rest() == []
    assert is_over(complete)
    wait_until(lambda: forwarded(pair[1], "stream", "passed") == 3, "each is counted")


def test_the_first_message_is_the_owners_to_answer(pair: list[Replica]) -> None:
    job = ordered(pair[0])
    with follow(pair[1].port, job.job_id) as stream:
        token = stream.next("token")
        stream.say(json.dumps({"last_event_id": token.id}))
        assert stream.next("replay").data["from"] == token.data["seq"] + 1
        worker_of(pair[0]).finish(job, 2)
        assert text_of(stream.rest()) == "b"
    assert is_over(stream)


@pytest.mark.parametrize("word", ["x\r\nX-Api-Key: mine", "\u0000", "\U0001f511", "x" * 900])
def test_a_first_message_that_is_no_id_gets_a_snapshot_from_there_too(pair: list[Replica], word: str) -> None:
    job = ordered(pair[0])
    with follow(pair[1].port, job.job_id) as stream:
        stream.next("token")
        stream.say(json.dumps({"last_event_id": word}))
        assert stream.next("snapshot").data["text"] == "ab"
        worker_of(pair[0]).finish(job, 2)
        stream.rest()
    assert is_over(stream)


def test_what_the_owner_refuses_is_refused_with_its_words(pair: list[Replica]) -> None:
    with SOCKET.open(pair[1].port, "sim-0-0123456789abcdef") as stream:
        assert refusal(stream) == (4404, "job_not_found")
    job = ordered(pair[0])
    with SOCKET.open(pair[1].port, job.job_id, query="?after=x") as stream:
        assert refusal(stream) == (1008, "invalid_cursor")
    with SOCKET.open(pair[1].port, job.job_id, headers={"X-Rhapsode-Hop": "sim-0"}) as stream:
        assert refusal(stream) == (1008, "misdirected")
    pair[0].die()
    with SOCKET.open(pair[1].port, job.job_id) as stream:
        assert refusal(stream) == (1013, "owner_unreachable")


def test_a_client_that_leaves_has_left_the_owner(pair: list[Replica]) -> None:
    job = ordered(pair[0])
    stream = follow(pair[1].port, job.job_id)
    stream.next("token")
    stream.close(hard=True)
    assert worker_of(pair[0]).receive(frames.Cancel).job_id == job.job_id


def test_an_owner_that_breaks_off_sends_its_readers_back(pair: list[Replica]) -> None:
    job = ordered(pair[0])
    with follow(pair[1].port, job.job_id) as stream:
        stream.next("token")
        pair[0].die()
        stream.rest()
        assert (stream.code, stream.reason) == (1001, "come back with your last id")


def test_a_replica_that_ends_sends_its_readers_to_another(pair: list[Replica]) -> None:
    job = ordered(pair[0])
    with follow(pair[1].port, job.job_id) as stay, follow(pair[0].port, job.job_id):
        token = stay.next("token")
        pair[1].relay.send(signal.SIGTERM)
        stay.rest()
        assert stay.code == 1001
        with follow(pair[0].port, job.job_id, token.id) as again:
            assert again.next().name == "replay"
        assert pair[1].relay.wait() == 0


def test_a_client_that_answers_nothing_hears_nothing_but_goodbye_when_its_replica_ends(pair: list[Replica]) -> None:
    """It is cut off while the connection is a WebSocket: no word of HTTP may follow."""
    job = ordered(pair[0])
    with follow(pair[1].port, job.job_id) as stay:
        stay.next("token")
        pair[1].relay.send(signal.SIGTERM)
        assert pair[1].relay.wait() == 0
        stay.rest()
        assert stay.code == 1001
        assert b"HTTP/1.1" not in stay.raw


def test_a_frozen_reader_is_sent_away_and_may_come_back_anywhere(pair: list[Replica]) -> None:
    job = ordered(pair[0])
    with follow(pair[1].port, job.job_id, receive_buffer=4096) as frozen:
        for i in range(2, 100_002, 500):
            worker_of(pair[0]).send(frames.Token(job_id=job.job_id, i=i, ts="\x7f".join(["word "] * 500)))
        worker_of(pair[0]).finish(job, 100_002)
        wait_until(
            lambda: forwarded(pair[1], "stream", "stalled") + forwarded(pair[1], "stream", "broken") == 1,
            "it is sent away, by the one or the other",
        )
        seen = frozen.rest()
    assert not is_over(frozen)
    with follow(pair[0].port, job.job_id, seen[-1].id) as again:
        assert text_of(seen + again.rest()) == "ab" + "word " * 100_000

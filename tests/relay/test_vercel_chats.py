"""A chat's message is come back to and stopped by the chat's id, through whatever replica the page meets."""

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import frames, names
from rhapsode_relay.uis.chats import correlation_of
from support.fake_worker import FakeWorker
from support.patience import PEER_SLACK, patient
from support.processes import DEADLINE_S, Relay, manifest, running_relay, wait_until
from support.replicas import Replica, forwarded, replicas, worker_of
from support.streams import Stream
from support.uis import CHAT, chat, of_kind, rest, text_of, until, verify_message


def come_back(port: int, chat_id: str = "chat-1", headers: dict[str, str] | None = None) -> Stream:
    """Ask as `useChat` does when its page is loaded anew."""
    return Stream(port, f"{CHAT}/{quote(chat_id, safe='')}/stream", headers=headers)


def nothing_to_come_back_to(port: int, chat_id: str = "chat-1") -> bool:
    with come_back(port, chat_id) as stream:
        return stream.status == 204


def stop(port: int, chat_id: str = "chat-1") -> int:
    return httpx.delete(f"http://127.0.0.1:{port}{CHAT}/{quote(chat_id, safe='')}", timeout=DEADLINE_S).status_code


def status_of(relay: Relay, job: frames.Generate) -> Any:
    return relay.get(f"/v1/inference/{job.job_id}").json()["status"]


@given(st.text())
def test_every_chat_has_a_correlation_id_that_is_its_own_where_it_can_be(chat_id: str) -> None:
    made = correlation_of(chat_id)
    assert names.CORRELATION_ID.fullmatch(made)
    assert made not in (".", "..")
    assert correlation_of(made) == made, "replicas ask each other by it"


@pytest.mark.parametrize("chat_id", ["chat-1", "a/b", "..%2f", "ü ✓?x=1#y", "x" * 200, "a\nb", ".x", "//a//stream"])
def test_a_page_that_comes_back_gets_the_whole_message(relay: Relay, worker: FakeWorker, chat_id: str) -> None:
    first = chat(relay.port, id=chat_id)
    job = worker.begin()
    worker.speak(job, "a", "b")
    begun = until(first, "text-delta", 2)
    first.close(hard=True)
    with come_back(relay.port, chat_id, {"Last-Event-ID": f"{job.job_id}-x-2"}) as again:
        until(again, "text-delta", 2)
        worker.speak(job, "c", start=2)
        worker.finish(job, 3)
        said = rest(again)
    verify_message(said)
    assert said[: len(begun)] == begun, "the very same, with the same id"
    assert text_of(said) == "abc"
    assert again.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert nothing_to_come_back_to(relay.port, chat_id), "nothing is under way now"


def test_a_chat_that_nobody_began_has_nothing_to_come_back_to(shared: Relay) -> None:
    assert nothing_to_come_back_to(shared.port, "nobody's")
    assert stop(shared.port, "nobody's") == 204


def test_a_stopped_message_ends_as_it_is(relay: Relay, worker: FakeWorker) -> None:
    with chat(relay.port) as stream:
        job = worker.begin()
        worker.speak(job, "a")
        until(stream, "text-delta")
        assert [stop(relay.port), stop(relay.port)] == [204, 204]
        assert worker.receive(frames.Cancel).job_id == job.job_id
        said = rest(stream)
    verify_message(said)
    assert said[-2] == {"type": "abort"}
    assert not of_kind(said, "error")
    assert status_of(relay, job) == "cancelled"


def test_the_newest_message_is_the_one_to_come_back_to(relay: Relay, worker: FakeWorker) -> None:
    with chat(relay.port), chat(relay.port) as second:
        worker.begin()
        worker.speak(worker.begin(), "x")
        newest = until(second, "text-delta")[0]["messageId"]
        with come_back(relay.port) as again:
            assert until(again, "text-delta")[0]["messageId"] == newest
        assert stop(relay.port) == 204
        assert {worker.receive(frames.Cancel).job_id, worker.receive(frames.Cancel).job_id} >= {newest}


def test_who_asks_anew_does_not_wait_for_what_was_left(relay: Relay) -> None:
    with FakeWorker(relay.socket, slots=1) as worker:
        left = chat(relay.port)
        job = worker.begin()
        until(left, "data-started")
        left.close(hard=True)
        wait_until(lambda: _left(relay), "the relay knows that its page is gone")
        with chat(relay.port) as anew:
            assert worker.receive(frames.Cancel).job_id == job.job_id
            worker.send(frames.Finish(job_id=job.job_id, stop_reason="cancelled", tokens_out=0))
            worker.serve("x")
            assert text_of(rest(anew)) == "x"


def _left(relay: Relay) -> bool:
    return any(one.get("stream_phase") == "client_disconnect" for one in list(relay.records))


def test_the_same_key_comes_back_to_what_was_left(relay: Relay, worker: FakeWorker) -> None:
    key = {"Idempotency-Key": "k-1"}
    left = chat(relay.port, headers=key)
    job = worker.begin()
    until(left, "data-started")
    left.close(hard=True)
    with chat(relay.port, headers=key) as again:
        worker.speak(job, "a")
        worker.finish(job, 1)
        said = rest(again)
    assert (said[0]["messageId"], text_of(said)) == (job.job_id, "a")


def test_a_message_that_nobody_comes_back_to_is_cancelled_after_a_while() -> None:
    with running_relay(manifest(graceSeconds=1)) as relay, FakeWorker(relay.socket) as worker:
        left = chat(relay.port)
        job = worker.begin()
        until(left, "data-started")
        left.close()
        assert worker.receive(frames.Cancel).job_id == job.job_id
        assert nothing_to_come_back_to(relay.port)


# Other replicas


@pytest.mark.parametrize("chat_id", ["chat-1", "a/../b ✓"])
def test_a_page_comes_back_through_another_replica(chat_id: str) -> None:
    with replicas(3) as (one, two, three):
        first = chat(one.port, id=chat_id)
        job = worker_of(one).begin()
        worker_of(one).speak(job, "a", "b")
        until(first, "text-delta")
        first.close(hard=True)
        with come_back(two.port, chat_id) as there:
            until(there, "text-delta")
            worker_of(one).speak(job, "c", start=2)
            worker_of(one).finish(job, 3)
            said = rest(there)
        verify_message(said)
        assert text_of(said) == "abc"
        assert there.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert nothing_to_come_back_to(three.port, chat_id)
        assert forwarded(two, "chat", "passed") == 1


def test_a_page_stops_a_message_through_another_replica() -> None:
    with replicas() as (one, two), chat(one.port) as stream:
        job = worker_of(one).begin()
        until(stream, "data-started")
        assert stop(two.port) == 204
        assert worker_of(one).receive(frames.Cancel).job_id == job.job_id
        assert rest(stream)[-2] == {"type": "abort"}


def test_a_replica_that_is_away_is_not_waited_for() -> None:
    with replicas(3) as (one, two, away):
        away.die()
        with chat(one.port):
            job = worker_of(one).begin()
            with come_back(two.port) as again:
                until(again, "data-started")
            assert nothing_to_come_back_to(two.port, "nobody's")
            answer = httpx.delete(f"http://127.0.0.1:{two.port}{CHAT}/chat-1", timeout=DEADLINE_S)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "owner_unreachable")
        assert worker_of(one).receive(frames.Cancel).job_id == job.job_id, "those that can be reached have stopped it"


@pytest.mark.parametrize(
    ("answer", "stopped"),
    [(b"204 No Content", True), (b"404 Not Found", True), (b"401 Unauthorized", False), (b"500 Oh", False)],
)
def test_a_replica_that_refuses_has_not_stopped_anything(answer: bytes, stopped: bool) -> None:
    """One that does not know a new key yet, say, while it goes on with the message."""
    with ThreadPoolExecutor() as pool, socket.create_server(("127.0.0.1", 0)) as peer:
        pool.submit(_answer_once, peer, b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % answer)
        environ = {names.ENV_PEERS: f"sim-7=127.0.0.1:{peer.getsockname()[1]}"} | patient(peer_slack=PEER_SLACK)
        with running_relay(environ=environ) as relay:
            assert stop(relay.port) == (204 if stopped else 503)


def _answer_once(peer: socket.socket, answer: bytes) -> None:
    peer.settimeout(DEADLINE_S)
    with peer.accept()[0] as connection:
        connection.recv(65536)
        connection.sendall(answer)


def test_a_question_is_answered_by_the_replica_that_is_ready() -> None:
    with replicas(2, ready=1) as (one, two), chat(two.port, id="a b") as stream:
        job = worker_of(one).serve("x")
        said = rest(stream)
        verify_message(said)
        assert (said[0]["messageId"], text_of(said)) == (job.job_id, "x")
        assert _same_chat(one, job)


def _same_chat(replica: Replica, job: frames.Generate) -> bool:
    return bool(replica.relay.get(f"/v1/inference/{job.job_id}").json()["correlation_id"] == correlation_of("a b"))

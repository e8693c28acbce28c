"""Streams in another protocol: their status waits for the first word, and they begin and end as any stream does."""

import contextlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from rhapsode_contract import frames
from support.chats import ask_whole, chat, finish, read, until
from support.fake_worker import FakeWorker
from support.patience import patient
from support.processes import DEADLINE_S, Relay, free_port, manifest, running_relay, wait_until
from support.requests import assert_error
from support.streams import Stream, resume, text_of
from support.uis import rest, verify_message, verify_run
from support.uis import text_of as text_in

# The status waits


def test_a_job_that_fails_before_its_first_word_has_a_status(relay: Relay, worker: FakeWorker) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(httpx.post, f"{relay.url}/v1/chat/completions", json=BODY)
        job = worker.begin()
        worker.send(
            frames.Error(job_id=job.job_id, code="context_length_exceeded", message="too long", param="prompt")
        )
        answer = asked.result()
    assert_error(answer, 400, "context_length_exceeded")
    assert (answer.headers["content-type"], answer.headers["x-should-retry"]) == ("application/json", "false")
    assert relay.metric("rhapsode_relay_readers") == 0


BODY = {"messages": [{"role": "user", "content": "hello"}], "stream": True}


def test_the_connection_that_was_refused_goes_on(relay: Relay, worker: FakeWorker) -> None:
    with ThreadPoolExecutor() as pool, httpx.Client(base_url=relay.url) as client:
        asked = pool.submit(client.post, "/v1/chat/completions", json=BODY)
        job = worker.begin()
        worker.send(frames.Error(job_id=job.job_id, code="oom", message="no memory", retryable=True))
        answer = asked.result()
        assert_error(answer, 503, "oom", retryable=True)
        assert (answer.headers["x-should-retry"], answer.headers["retry-after-ms"]) == ("true", "1000")
        asked = pool.submit(client.post, "/v1/chat/completions", json=BODY)
        worker.serve("a")
        assert read(asked.result().content).text == "a"


def test_a_worker_that_dies_before_the_first_word_is_a_status_too(relay: Relay) -> None:
    with ThreadPoolExecutor() as pool:
        with FakeWorker(relay.socket) as worker:
            asked = pool.submit(httpx.post, f"{relay.url}/v1/chat/completions", json=BODY)
            worker.begin()
        assert_error(asked.result(), 503, "worker_lost", retryable=True)


def test_who_fails_after_the_first_word_says_so_in_the_stream(relay: Relay) -> None:
    with FakeWorker(relay.socket) as worker, ThreadPoolExecutor() as pool:
        asked = pool.submit(chat, relay.port)
        worker.speak(worker.begin(), "a")
        with asked.result() as stream:
            until(stream, b'"a"')
            worker.close()
            said = finish(stream)
    assert said.error is not None
    assert (said.text, said.error["code"], said.done, stream.ended) == ("a", "worker_lost", True, True)


def test_a_status_does_not_wait_forever_and_then_the_silence_is_filled() -> None:
    with running_relay(manifest(heartbeatSeconds=1)) as relay:
        began = time.monotonic()
        with chat(relay.port) as stream:
            assert time.monotonic() - began > 9, "it waited for a status"
            assert (stream.status, stream.raw.replace(b": keepalive\n\n", b"")) == (200, b"")
            until(stream, b": keepalive\n\n")
            with FakeWorker(relay.socket) as worker:
                worker.serve("late")
                said = finish(stream)
    assert (said.text, said.done) == ("late", True)


# Who leaves


def test_a_client_that_leaves_before_the_first_word_ends_its_job(relay: Relay, worker: FakeWorker) -> None:
    with asking(relay, stream=True) as client:
        job = worker.receive(frames.Generate)
        client.shutdown(socket.SHUT_WR)
        assert worker.receive(frames.Cancel).job_id == job.job_id
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(65536) == b""
    wait_until(lambda: relay.metric("rhapsode_relay_readers") == 0, "its reader is gone")


def asking(relay: Relay, *, stream: bool) -> socket.socket:
    """Ask, and return the connection before anything came."""
    payload = json.dumps(BODY | {"stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
    client = socket.create_connection(("127.0.0.1", relay.port), DEADLINE_S)
    client.sendall(head + payload)
    return client


def test_a_client_that_leaves_amid_the_text_ends_its_job(relay: Relay, worker: FakeWorker) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(chat, relay.port)
        job = worker.begin()
        worker.speak(job, "a")
        until(asked.result(), b'"a"')
        asked.result().close(hard=True)
        assert worker.receive(frames.Cancel).job_id == job.job_id
    wait_until(lambda: relay.metric("rhapsode_relay_readers") == 0, "its reader is gone")


def test_a_client_that_waits_for_the_whole_and_leaves_ends_its_job(relay: Relay, worker: FakeWorker) -> None:
    with asking(relay, stream=False):
        job = worker.begin()
        worker.speak(job, "a")
    assert worker.receive(frames.Cancel).job_id == job.job_id
    wait_until(lambda: relay.metric("rhapsode_relay_readers") == 0, "nobody reads")


def test_whoever_else_reads_keeps_the_job(relay: Relay, worker: FakeWorker) -> None:
    """The screen reads what the agent asked for; the agent leaves."""
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(chat, relay.port)
        job = worker.begin()
        worker.speak(job, "a")
        with resume(relay.port, job.job_id) as screen:
            screen.next("token")
            asked.result().close(hard=True)
            wait_until(lambda: relay.metric("rhapsode_relay_readers") == 1, "the agent is gone")
            worker.speak(job, "b", start=1)
            worker.finish(job, 2)
            assert text_of(screen.rest()) == "b"


# Who reads slowly, and who ends


@pytest.fixture
def lenient() -> Iterator[tuple[Relay, FakeWorker]]:
    """A relay and its worker: no reader is cut off for what it has not read yet."""
    with running_relay(environ=patient(stall_s=600.0)) as relay, FakeWorker(relay.socket) as worker:
        yield relay, worker


def test_a_slow_reader_gets_everything(lenient: tuple[Relay, FakeWorker]) -> None:
    relay, worker = lenient
    texts = [f"{number} 東京 " + "x" * 500 for number in range(4000)]
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(chat, relay.port, buffer=4096)
        job = worker.begin()
        worker.speak(job, texts[0])
        stream = asked.result()
        for start in range(1, 4000, 500):
            worker.speak(job, *texts[start : start + 500], start=start)
        worker.finish(job, 4000)
        wait_until(lambda: relay.get(f"/v1/inference/{job.job_id}").json()["status"] == "completed", "all is said")
        said = finish(stream)
        stream.close()
    assert said.text == "".join(texts)
    assert (said.finish_reason, said.done) == ("stop", True)


def test_a_reader_that_takes_nothing_is_cut_off_and_ends_its_job(relay: Relay, worker: FakeWorker) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(chat, relay.port, buffer=4096)
        job = worker.begin()
        worker.speak(job, "begin")
        stream = asked.result()
        for start in range(1, 20_001, 1000):
            worker.speak(job, *["x" * 100] * 1000, start=start)
        assert worker.receive(frames.Cancel).reason == "client"
        wait_until(lambda: relay.metric("rhapsode_relay_readers") == 0, "its reader is gone")
        said = _rest_of(stream)
        stream.close()
    assert b"[DONE]" not in said


def test_a_reader_that_the_window_left_behind_is_told_so_and_ends_its_job(lenient: tuple[Relay, FakeWorker]) -> None:
    relay, worker = lenient
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(chat, relay.port, buffer=4096)
        job = worker.begin()
        worker.speak(job, "begin")
        stream = asked.result()
        texts = frames.TOKEN_SEPARATOR.join(["x" * 40] * 1000)
        for start in range(1, 99_001, 1000):
            worker.send(frames.Token(job_id=job.job_id, i=start, ts=texts))
        wait_until(lambda: relay.metric("rhapsode_tokens_total") == 99_001, "all is said")
        said = finish(stream)
        stream.close()
        assert worker.receive(frames.Cancel).job_id == job.job_id
    assert said.error is not None
    assert (said.text[:6], said.done, stream.ended) == ("beginx", True, True)
    assert said.text.count("x") < 99_000 * 40, "what is lost is not made up for"


def test_who_comes_late_to_a_text_that_outgrew_the_window_gets_all_of_it(lenient: tuple[Relay, FakeWorker]) -> None:
    relay, worker = lenient
    key, texts = {"Idempotency-Key": "k"}, ["é"] * 70_000
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(chat, relay.port, headers=key)
        job = worker.begin()
        for start in range(0, len(texts), 1000):
            worker.speak(job, *texts[start : start + 1000], start=start)
        worker.finish(job, len(texts))
        wait_until(lambda: relay.get(f"/v1/inference/{job.job_id}").json()["status"] == "completed", "all is said")
        asked.result().close()
    with chat(relay.port, headers=key) as again:
        said = finish(again)
    assert (said.text, said.finish_reason, said.done) == ("".join(texts), "stop", True)
    for protocol, verify in (("agui", verify_run), ("vercel", verify_message)):
        with Stream(relay.port, f"/v1/inference/{job.job_id}/stream?format={protocol}") as stream:
            told = rest(stream)
        verify(told)
        assert text_in(told) == "".join(texts)


def _rest_of(stream: Stream) -> bytes:
    with contextlib.suppress(OSError):
        while stream.read_some():
            pass
    return stream.raw


def test_a_relay_that_ends_says_so_in_every_stream(relay: Relay, worker: FakeWorker) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(chat, relay.port)
        worker.speak(worker.begin(), "a")
        stream = asked.result()
        until(stream, b'"a"')
        whole = pool.submit(ask_whole, relay)
        worker.begin()
        relay.send(signal.SIGINT)
        said = finish(stream)
        assert_error(whole.result(), 503, "server_shutdown", retryable=True)
        stream.close()
    assert said.error is not None
    assert (said.error["code"], said.done) == ("server_shutdown", True)
    assert relay.wait() == 0


def test_a_relay_that_is_killed_breaks_the_stream_where_it_was(relay: Relay, worker: FakeWorker) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(chat, relay.port)
        worker.speak(worker.begin(), "a")
        stream = asked.result()
        until(stream, b'"a"')
        relay.send(signal.SIGKILL)
        said = finish(stream)
        stream.close()
    assert (said.text, said.done, stream.ended) == ("a", False, False), "nobody takes it for the whole"


def test_what_a_killed_relay_was_asked_for_does_not_run_on_for_nobody(tmp_path: Path) -> None:
    ports, settings = (free_port(), free_port()), manifest(graceSeconds=1)
    first = Relay(settings, tmp_path, *ports)
    with FakeWorker(first.socket) as worker, ThreadPoolExecutor() as pool:
        asked = pool.submit(chat, first.port)
        job = worker.begin()
        worker.speak(job, "a")
        until(asked.result(), b'"a"')
        first.send(signal.SIGKILL)
        first.wait()
        asked.result().close()
    first.close()
    second = Relay(settings, tmp_path, *ports)
    try:
        held = [frames.JobState(job_id=job.job_id, text="a", tokens=1, meta=job.meta)]
        with FakeWorker(second.socket, jobs=held) as again:
            assert again.receive(frames.Cancel).job_id == job.job_id
    finally:
        second.close()

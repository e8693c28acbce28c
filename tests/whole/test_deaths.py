"""Processes that die, and what the people at both ends notice."""

import contextlib
import hashlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from rhapsode_worker.engines.simulating import simulated_text
from support.gated_engine import SPEECH, Gates
from support.plays import speechless
from support.processes import DEADLINE_S, Play, manifest, playing, wait_until
from support.streams import Stream, ask, names_of, resume, text_of

TOKENS = 300
MANY_TOKENS = 6000
"""A minute of them, for what is not meant to end by itself."""


@contextlib.contextmanager
def playing_slowly(**relay: Any) -> Iterator[Play]:
    """A worker that takes three seconds for 300 tokens."""
    engine = {"maxContextTokens": 4 * MANY_TOKENS, "options": {"tokensPerSecond": 100}}
    with playing(manifest(engine=engine, **relay)) as play:
        play.wait_ready()
        yield play


@pytest.mark.parametrize("victim", ["rhapsode_worker", "rhapsode_worker.child"])
def test_a_worker_that_is_killed_ends_its_stream_once_and_the_next_request_works(victim: str) -> None:
    with playing_slowly() as play:
        with ask(play.port, "hello", seed=1, max_tokens=MANY_TOKENS) as stream:
            seen = [stream.next("token") for _ in range(20)]
            os.kill(play.pids(victim)[-1 if victim == "rhapsode_worker.child" else 0], signal.SIGKILL)
            rest = stream.rest()
        terminal = [event for event in rest if event.name in ("end", "error")]
        assert [event.name for event in terminal] == ["error"]
        assert rest[-2:][0] is terminal[0]
        assert rest[-1].name == "done"
        error = terminal[0].data
        assert error["error"]["code"] in ("worker_lost", "engine_crashed")
        assert (error["error"]["partial"], error["retryable"]) == (True, True)
        assert simulated_text(1, "hello", MANY_TOKENS).startswith(text_of(seen + rest))
        with ask(play.port, "again", seed=2, max_tokens=10) as stream:
            events = stream.rest()
        assert text_of(events) == simulated_text(2, "again", 10)
        assert events[-2].name == "end"


def test_who_waits_in_line_when_the_engine_dies_waits_for_the_next_one() -> None:
    engine = {"maxSequences": 1, "maxContextTokens": 4 * MANY_TOKENS, "options": {"tokensPerSecond": 100}}
    with playing(manifest(engine=engine)) as play:
        play.wait_ready()
        with (
            ask(play.port, "hello", seed=1, max_tokens=MANY_TOKENS) as running,
            ask(play.port, "and I?", seed=2, max_tokens=10) as waiting,
        ):
            running.next("token")
            waiting.next("queued")
            os.kill(play.pids("rhapsode_worker.child")[-1], signal.SIGKILL)
            assert running.rest()[-2].data["error"]["code"] == "engine_crashed"
            events = waiting.rest()
        assert text_of(events) == simulated_text(2, "and I?", 10)
        assert events[-2].name == "end"


def test_a_relay_that_is_killed_costs_a_reader_nothing(speech: Gates) -> None:
    """The worker goes on; the new relay learns the job from it; the reader gets a snapshot and the rest."""
    with playing_slowly(onDisconnect="cancel") as play:
        with ask(play.port, "hello", seed=1, max_tokens=TOKENS) as stream:
            seen = stream.next("token")
            before = play.pids("rhapsode_worker.child")
            play.kill("rhapsode_relay")
            assert not [event for event in stream.rest() if event.name in ("end", "error", "done")]
            speech.release(SPEECH)
            job_id = stream.headers["x-job-id"]
        play.wait_record("play_restart")
        play.wait_record("relay_start", count=2)
        with come_back(play, job_id, seen.id) as stream:
            events = stream.rest()
        assert events[0].name == "snapshot"
        assert events[0].data["reason"] == "epoch"
        assert names_of(events)[-2:] == ["end", "done"]
        text = text_of(events)
        assert text == simulated_text(1, "hello", TOKENS)
        assert hashlib.sha256(text.encode()).hexdigest() == events[-2].data["text_sha256"]
        assert play.pids("rhapsode_worker.child") == before, "the engine was never disturbed"


def come_back(play: Play, job_id: str, last_id: str) -> Stream:
    """Resume as a client does: again until somebody listens."""

    def attempt() -> Stream | None:
        with contextlib.suppress(OSError):
            return resume(play.port, job_id, last_id)
        return None

    stream: Stream = wait_until(attempt, "the new relay answers")
    return stream


def test_a_relay_that_dies_again_and_again_costs_a_reader_nothing() -> None:
    with playing_slowly(onDisconnect="continue") as play:
        stream = ask(play.port, "hello", seed=1, max_tokens=3 * TOKENS)
        job_id, last_id = stream.headers["x-job-id"], ""
        for _ in range(3):
            last_id = [stream.next("token") for _ in range(10)][-1].id
            with speechless(play):
                play.kill("rhapsode_relay")
                stream.close()
                stream = come_back(play, job_id, last_id)
                assert stream.next().name == "snapshot"
        text = stream.rest()
        stream.close()
        assert names_of(text)[-2:] == ["end", "done"]
        with resume(play.port, job_id) as again:
            assert text_of(again.rest()) == simulated_text(1, "hello", 3 * TOKENS)


def test_sigterm_lets_the_stream_finish_and_exits_0() -> None:
    with playing_slowly() as play:
        with ask(play.port, "hello", seed=1, max_tokens=TOKENS) as stream:
            stream.next("token")
            play.send(signal.SIGTERM)
            events = stream.rest()
        assert names_of(events)[-2:] == ["end", "done"]
        assert play.wait() == 0
        play.wait_record("stopped")
        assert "Traceback" not in "".join(play.errors)


def test_sigterm_at_the_deadline_says_goodbye_with_a_retryable_error_and_exits_0() -> None:
    with playing_slowly(drainSeconds=1) as play:
        with ask(play.port, "hello", seed=1, max_tokens=MANY_TOKENS) as stream:
            stream.next("token")
            play.send(signal.SIGTERM)
            events = stream.rest()
        assert names_of(events)[-2:] == ["error", "done"]
        error = events[-2].data
        assert error["error"]["code"] == "server_shutdown"
        assert (error["error"]["partial"], error["retryable"]) == (True, True)
        assert play.wait() == 0


def test_an_operator_drains_and_then_ends_a_worker_that_was_answering(speech: Gates) -> None:
    with playing_slowly() as play:
        with ask(play.port, "hello", seed=1, max_tokens=TOKENS) as stream:
            stream.next("token")
            assert httpx.post(f"{play.admin_url}/v1/drain").json()["running"] == 1
            play.wait_record("drain")
            with ask(play.port, "late") as late:
                assert (late.status, late.json()["error"]["code"]) == (503, "draining")
            play.send(signal.SIGTERM)
            speech.release(SPEECH)
            events = stream.rest()
        assert names_of(events)[-2:] == ["end", "done"]
        assert play.wait() == 0
        assert play.wait_record("stopped")["message"] == f"Stopped after 1 request and {TOKENS} tokens"


def test_ctrl_c_ends_both_at_once() -> None:
    """Neither the drain nor the answer is waited for: both would take longer than we do."""
    long = 2 * MANY_TOKENS
    with playing_slowly(drainSeconds=600) as play, ask(play.port, "hello", max_tokens=long) as stream:
        stream.next("token")
        family = psutil.Process(play.pid).children(recursive=True)
        play.send(signal.SIGINT)
        events = stream.rest()
        assert play.wait() == 130
        assert names_of(events)[-2:] == ["error", "done"]
        assert not [process for process in family if process.is_running()]


def test_a_killed_play_leaves_nobody_behind() -> None:
    with playing_slowly() as play, ask(play.port, "hello", max_tokens=2 * MANY_TOKENS) as stream:
        stream.next("token")
        family = psutil.Process(play.pid).children(recursive=True)
        assert len(family) >= 3
        play.send(signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=DEADLINE_S)
        assert alive == []


def test_a_worker_that_died_is_told_and_started_again() -> None:
    with playing_slowly() as play:
        play.kill("rhapsode_worker")
        told = play.wait_record("play_restart")
        assert told["message"] == "worker ended by signal 9 (SIGKILL); starting it again"
        play.wait_ready(count=2)


def test_two_plays_do_not_disturb_each_other() -> None:
    with playing_slowly() as one, playing_slowly() as two:
        for play in (one, two):
            with ask(play.port, "hello", seed=1, max_tokens=5) as stream:
                assert text_of(stream.rest()) == simulated_text(1, "hello", 5)

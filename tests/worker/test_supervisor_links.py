"""The worker as a process when its relay goes away or reads slowly, and when it is itself told to end or killed."""

import asyncio
import os
import signal
from pathlib import Path
from typing import cast

import psutil

from rhapsode_contract import frames
from rhapsode_worker.engines.simulating import simulated_text
from rhapsode_worker.joining import tokens_in
from rhapsode_worker.linking import RelayLink
from support.gated_engine import SPEECH, Gates
from support.processes import DEADLINE_S, wait_until
from support.worker_process import Worker, job, text_of, working


def told_tokens(worker: Worker) -> int:
    """Return how far its requests are, as its log tells it."""
    return max(
        (record["fields"]["tokens"] for record in list(worker.records) if record["event"] == "tokens"), default=0
    )


# The relay goes away


def test_without_a_relay_the_engine_goes_on_and_the_next_relay_gets_it_all(tmp_path: Path, speech: Gates) -> None:
    with working(tmp_path, tokensPerSecond=200) as worker:
        worker.ready()
        worker.relay.send(job(max_tokens=600))
        before = worker.relay.wait(frames.Token)
        worker.relay.die()
        worker.wait_record("relay_lost")
        speech.release(SPEECH)
        wait_until(lambda: told_tokens(worker) > before.i + 1, "the engine goes on")
        hello = worker.relay.meet()
        held = hello.jobs[0]
        assert (held.job_id, held.meta) == ("sim-1", {"k": 1})
        assert held.tokens > before.i + 1, "it went on meanwhile"
        told = worker.relay.until(frames.Finish)
        at = held.tokens
        for frame in told:
            if isinstance(frame, frames.Token):
                assert frame.i == at
                at += tokens_in(frame)
        assert held.text + text_of(told) == simulated_text(7, "hello", 600)
        assert any(isinstance(frame, frames.Prefill) for frame in told)


def test_a_job_that_ended_while_there_was_no_relay_ends_for_the_next_one(tmp_path: Path, speech: Gates) -> None:
    with working(tmp_path) as worker:
        worker.ready()
        worker.relay.send(job(max_tokens=20))
        worker.relay.wait(frames.Token)
        worker.relay.die()
        worker.wait_record("relay_lost")
        speech.release(SPEECH)
        worker.wait_record("inference_complete")
        hello = worker.relay.meet()
        told = worker.relay.until(frames.Finish)
        assert hello.jobs[0].text + text_of(told) == simulated_text(7, "hello", 20)
        worker.relay.send(frames.Cancel(job_id="sim-1"), frames.Ping())  # the relay needs no more of it
        worker.relay.wait(frames.Stats)
        worker.relay.die()
        assert worker.relay.meet().jobs == []


def test_what_was_said_before_a_relay_came_is_told_with_its_time(tmp_path: Path) -> None:
    with working(tmp_path, alone=True) as worker:
        worker.wait_record("ready")
        worker.relay.meet()
        told = worker.relay.until(frames.State, phase="ready")
    past = [frame for frame in told if isinstance(frame, frames.Narration)]
    assert past[0].action == "start"
    assert all(frame.ts for frame in past)


def test_a_relay_that_reads_slowly_loses_no_token(tmp_path: Path) -> None:
    with working(tmp_path, tokensPerSecond=0) as worker:
        worker.ready()
        worker.relay.send(job(max_tokens=60_000))
        worker.wait_record("inference_complete")  # the socket's buffers are full long before
        told = worker.relay.until(frames.Finish)
    assert text_of(told) == simulated_text(7, "hello", 60_000)
    assert any(frame.ts for frame in told if isinstance(frame, frames.Token)), "adjacent tokens were joined"


def test_a_ping_is_answered(tmp_path: Path) -> None:
    with working(tmp_path, tokensPerSecond=5) as worker:
        worker.ready()
        worker.relay.send(job(max_tokens=10_000))
        worker.relay.wait(frames.Token)
        worker.relay.send(frames.Ping())
        assert worker.relay.wait(frames.Stats).active == 1


# The end


class BusyRelay(asyncio.Protocol):
    """A relay that does not read before it is told to."""

    heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.heard += data


async def test_a_relay_that_speaks_to_one_who_leaves_hears_its_last_words_all_the_same(tmp_path: Path) -> None:
    relay, path = BusyRelay(), tmp_path / "s"
    server = await asyncio.get_running_loop().create_unix_server(lambda: relay, str(path))
    link = RelayLink(path, list, lambda _: None)
    async with server, asyncio.timeout(DEADLINE_S):
        keeping = asyncio.create_task(link.keep())
        while not (link.connected and hasattr(relay, "transport")):
            await asyncio.sleep(0.01)
        link.send(frames.State(phase="failed", reason="EngineCrash"))
        leaving = asyncio.create_task(link.leave(DEADLINE_S))
        while link.connected:
            await asyncio.sleep(0.01)
        relay.transport.write(frames.encode_frame(frames.Ping()))
        assert not leaving.done()
        relay.transport.resume_reading()
        await asyncio.gather(leaving, keeping)
    assert b"EngineCrash" in relay.heard


def test_sigterm_lets_requests_finish_and_takes_nothing_new(tmp_path: Path) -> None:
    with working(tmp_path) as worker:
        worker.ready()
        with worker.engine_held():  # its request cannot be over before the next one comes
            worker.relay.send(job(max_tokens=100), frames.Ping())
            assert worker.relay.wait(frames.Stats).active == 1
            worker.send(signal.SIGTERM)
            worker.relay.wait(frames.State, phase="draining")
            worker.relay.send(job("sim-2"))
            refused = worker.relay.wait(frames.Error)
        assert (refused.job_id, refused.code) == ("sim-2", "draining")
        told = worker.relay.until(frames.Finish)
        assert text_of(told) == simulated_text(7, "hello", 100)
        said = worker.relay.wait(frames.Narration, action="stopped")
        assert said.human == "Stopped after 1 request and 100 tokens"
        assert worker.wait() == 0


def test_at_the_deadline_requests_end_with_a_retryable_error(tmp_path: Path) -> None:
    with working(tmp_path, relay={"drainSeconds": 1}, tokensPerSecond=10) as worker:
        worker.ready()
        worker.relay.send(job(max_tokens=10_000))
        worker.relay.wait(frames.Token)
        worker.send(signal.SIGTERM)
        error = worker.relay.wait(frames.Error)
        assert (error.code, error.retryable) == ("server_shutdown", True)
        assert worker.wait() == 0


def test_an_engine_that_dies_while_the_worker_drains_ends_its_requests_then_and_not_at_the_deadline(
    tmp_path: Path,
) -> None:
    with working(tmp_path, relay={"drainSeconds": 30}) as worker:
        worker.ready()
        worker.relay.send(job(max_tokens=100_000))
        worker.relay.wait(frames.Token)
        worker.send(signal.SIGTERM)
        worker.relay.wait(frames.State, phase="draining")
        os.kill(worker.engine_pid(), signal.SIGKILL)
        error = worker.relay.wait(frames.Error)
        assert (error.code, error.retryable) == ("engine_crashed", True)
        assert worker.wait() == 0


def test_a_killed_supervisor_leaves_no_engine_behind(tmp_path: Path) -> None:
    with working(tmp_path) as worker:
        worker.ready()
        worker.relay.send(job(max_tokens=100_000))
        worker.relay.wait(frames.Token)
        engine = psutil.Process(worker.engine_pid())
        worker.send(signal.SIGKILL)
        engine.wait(DEADLINE_S)


def test_sigterm_while_loading_ends_at_once(tmp_path: Path) -> None:
    with working(tmp_path, load=[{"stage": "a", "seconds": 600}]) as worker:
        worker.relay.meet()
        worker.relay.wait(frames.Load)
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0

"""How an engine process ends: closed in order, within bounds, and never later than its supervisor."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from rhapsode_contract import frames, names
from rhapsode_worker.engine_process import EngineProcess
from rhapsode_worker.engines import LoadPlan
from support.loads import Loading
from support.processes import DEADLINE_S, is_gone, wait_until


@pytest.mark.parametrize("busy", [{"hold": "there"}, {"wait": "never"}], ids=["inside C code", "while it waits"])
def test_an_engine_that_loads_ends_with_its_killed_supervisor(tmp_path: Path, busy: dict[str, str]) -> None:
    with Loading(tmp_path, [{"spawn": "other"}, busy], gpus=0) as load:
        other = int(load.until_there("other"))
        engine = load.worker.engine_pid()
        if "hold" in busy:
            load.until_there("there")
        load.worker.send(signal.SIGKILL)
        wait_until(lambda: is_gone(engine), "the engine process is gone")
        wait_until(lambda: is_gone(other), "so is what it started")


def test_a_guard_leaves_with_the_engine(tmp_path: Path) -> None:
    with Loading(tmp_path, [], gpus=0) as load:
        load.until(frames.State, phase="ready")
        supervisor = psutil.Process(load.worker.pid)
        before = len(supervisor.children())
        os.kill(load.worker.engine_pid(), signal.SIGKILL)
        load.until(frames.Narration, action="engine_exit")
        load.until(frames.State, phase="ready")
        assert (before, len(supervisor.children())) == (2, 2), "the engine and who guards it"


def test_an_engine_is_closed_when_the_worker_stops(tmp_path: Path) -> None:
    with Loading(tmp_path, [], gpus=0) as load:
        load.until(frames.State, phase="ready")
        load.worker.send(signal.SIGTERM)
        assert load.worker.wait() == 0
        assert (load.folder / "closed").exists()


def test_an_engine_that_failed_half_loaded_is_closed_too(tmp_path: Path) -> None:
    with Loading(tmp_path, [{"refuse": "it is Monday"}], gpus=0) as load:
        load.until(frames.State, phase="failed")
        assert load.worker.wait() == names.EXIT_CANNOT_WORK
        assert (load.folder / "closed").exists()


def test_an_engine_that_does_not_close_is_ended(tmp_path: Path) -> None:
    with Loading(tmp_path, [{"hang": True}], gpus=0) as load:
        load.until(frames.State, phase="ready")
        engine = load.worker.engine_pid()
        load.worker.send(signal.SIGTERM)
        load.until(frames.State, phase="draining")
        load.worker.send(signal.SIGTERM)
        assert load.worker.wait() == 0
        assert is_gone(engine)


@pytest.mark.parametrize("apart", [False, True], ids=["in its group", "in a group of its own"])
def test_what_an_engine_started_does_not_hold_up_its_next_start(tmp_path: Path, apart: bool) -> None:
    """A process that keeps the engine's output open must not make a dead engine look alive."""
    with Loading(tmp_path, [{"spawn": "other", "apart": apart}], gpus=0) as load:
        load.until(frames.State, phase="ready")
        other = int(load.until_there("other"))
        try:
            os.kill(load.worker.engine_pid(), signal.SIGKILL)
            load.until(frames.Narration, action="engine_exit")
            load.until(frames.State, phase="ready")
            if apart:
                assert not is_gone(other)
            else:
                wait_until(lambda: is_gone(other), "it ended with the engine's group")
        finally:
            if apart:
                os.kill(other, signal.SIGKILL)
                os.kill(int(load.until_there("other")), signal.SIGKILL)


def test_a_worker_that_is_stopped_while_it_loads_does_not_wait_for_the_engine(tmp_path: Path) -> None:
    with Loading(tmp_path, [{"hold": "there"}], gpus=0) as load:
        engine = int(load.until_there("there"))
        load.worker.send(signal.SIGTERM)
        assert load.worker.wait() == 0
        assert is_gone(engine)


async def test_an_engine_that_nobody_wants_any_more_when_it_is_just_born_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def connect(sock: socket.socket) -> None:
        with sock:
            await asyncio.Event().wait()

    monkeypatch.setattr("asyncio.open_connection", connect)
    process = EngineProcess(LoadPlan(engine="Simulator", model="m"), lambda _: None, lambda _: None)
    life = asyncio.create_task(process.run())
    async with asyncio.timeout(DEADLINE_S):
        while process.pid is None:
            await asyncio.sleep(0.01)
        life.cancel()
        await asyncio.wait({life})
    assert is_gone(process.pid)

"""Why a worker gave up, where Kubernetes looks for it; and how it knows that memory was the cause."""

import asyncio
import contextlib
import json
import logging
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import frames, names
from rhapsode_contract.resources import InferenceWorker
from rhapsode_worker.counting_kills import memory_events, oom_kills
from rhapsode_worker.giving_up import termination_message, write_termination
from rhapsode_worker.settings import WorkerSettings
from rhapsode_worker.supervising import Supervisor
from support.processes import DEADLINE_S, manifest
from support.worker_process import Worker


def run_to_its_end(folder: Path, resource: dict[str, Any], log: Path) -> int:
    worker = Worker(folder, resource, **{names.ENV_TERMINATION_LOG: str(log)})
    try:
        return worker.wait()
    finally:
        worker.close()


def test_a_model_that_is_not_there_is_the_termination_message(tmp_path: Path) -> None:
    resource = manifest(engine={"name": "OpenVINO"})
    resource["spec"]["model"] = {"source": "builtin://gpt-9"}
    assert run_to_its_end(tmp_path, resource, tmp_path / "log") == names.EXIT_CANNOT_WORK
    told = json.loads((tmp_path / "log").read_text())
    assert told["reason"] == "ModelNotFound"
    assert "Known are builtin://smollm2-135m." in told["message"]


def test_so_is_what_the_engine_could_not_do(tmp_path: Path) -> None:
    options = {"load": [{"stage": "w"}], "faults": [{"kind": "oom", "at": "w"}]}
    resource = manifest(engine={"options": options})
    assert run_to_its_end(tmp_path, resource, tmp_path / "log") == names.EXIT_CANNOT_WORK
    told = json.loads((tmp_path / "log").read_text())
    assert told["reason"] == "CUDAOutOfMemory"
    assert told["message"].endswith("Lower kvCacheFraction or maxSequences.")


def test_a_message_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    resource = manifest(engine={"options": {"tokensPerSecond": "fast"}})
    assert run_to_its_end(tmp_path, resource, tmp_path / "no" / "log") == names.EXIT_CANNOT_WORK
    write_termination(None, "EngineCrash", "no place for it")


def test_signals_while_it_gives_up_do_not_hide_that_it_cannot_work(tmp_path: Path) -> None:
    worker = Worker(tmp_path, manifest(engine={"options": {"tokensPerSecond": "fast"}}))
    try:
        worker.relay.meet()
        worker.relay.wait(frames.State, phase="failed")
        while worker.process.poll() is None:
            worker.send(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(0.001)
        assert (worker.wait(), worker.errors) == (names.EXIT_CANNOT_WORK, [])
        with pytest.raises(ConnectionResetError):
            pytest.fail(f"it failed, and then told {worker.relay.until(frames.State)}")
    finally:
        worker.close()


@given(st.text(max_size=6000))
def test_a_message_is_json_that_kubernetes_keeps_whole(message: str) -> None:
    written = termination_message("EngineCrash", message)
    assert len(written) <= names.MAX_TERMINATION_BYTES
    kept = json.loads(written)["message"]
    assert kept == message or (kept.endswith("…") and message.startswith(kept[:-1]))


# Memory


@pytest.mark.parametrize(
    ("text", "kills"),
    [("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n", 2), ("low 0\n", None), ("", None)],
)
def test_the_kernels_count_is_read_or_unknown(tmp_path: Path, text: str, kills: int | None) -> None:
    (tmp_path / "memory.events").write_text(text)
    assert oom_kills(tmp_path / "memory.events") == kills
    assert oom_kills(tmp_path / "absent") is None
    assert oom_kills(None) is None


def test_the_count_is_that_of_the_own_control_group(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("1:cpu:/old\n0::/kubepods/pod1\n")
    assert memory_events(tmp_path / "cgroup", Path("/c")) == Path("/c/kubepods/pod1/memory.events")
    (tmp_path / "cgroup").write_text("1:memory:/old\n")
    assert memory_events(tmp_path / "cgroup", Path("/c")) is None
    assert memory_events(tmp_path / "absent") is None


@pytest.mark.parametrize(("kills", "reason"), [(1, "ContainerOOM"), (0, "EngineCrash")])
async def test_an_engine_that_the_kernel_killed_for_its_memory_is_not_a_crash(
    tmp_path: Path, kills: int, reason: str
) -> None:
    options = {
        "load": [{"stage": "a", "seconds": 0.3}, {"stage": "b"}],
        "faults": [{"kind": "exit", "at": "b", "signal": 9}],
    }
    resource = msgspec.convert(manifest(engine={"options": options}), InferenceWorker)
    counter = tmp_path / "memory.events"
    counter.write_text("oom_kill 0\n")
    environ = {
        names.ENV_SOCKET: str(tmp_path / "s"),
        names.ENV_CACHE: str(tmp_path),
        names.ENV_TERMINATION_LOG: str(tmp_path / "log"),
    }
    settings = replace(WorkerSettings.load(resource, environ), memory_events=counter, max_restarts=0)
    supervisor = Supervisor(settings, logging.getLogger("test"))
    life = asyncio.create_task(supervisor.run(asyncio.Event(), asyncio.Event()))
    while supervisor._engine is None or supervisor._engine.pid is None:
        await asyncio.sleep(0.01)
    counter.write_text(f"oom_kill {kills}\n")
    assert await asyncio.wait_for(life, DEADLINE_S) == names.EXIT_CANNOT_WORK
    told = json.loads((tmp_path / "log").read_text())
    assert told["reason"] == reason
    assert ("memory limit" in told["message"]) is (kills == 1)

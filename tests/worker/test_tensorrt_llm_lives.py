"""TensorRT-LLM's engine process, its package a stand-in: how it is guarded, and how it ends."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from rhapsode_contract import frames, names
from support.fake_nvml import GIB, FakeNvml
from support.fake_tensorrt import fakes_environ
from support.processes import manifest
from support.worker_process import Worker, job

PATCH = """from pathlib import Path
from rhapsode_worker.engines import tensorrt_llm
"""


def worker_of(folder: Path, script: Any = None, *, gpus: Any = 1, **environ: str) -> Worker:
    """Start a worker that serves a checkpoint of no weight."""
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (checkpoint / "model.safetensors").write_bytes(b"x")
    (folder / "script.json").write_text(json.dumps(script or {}))
    resource = manifest(engine={"name": "TensorRTLLM"})
    resource["spec"] |= {"model": {"source": f"file://{checkpoint}", "servedName": "m"}, "gpus": gpus}
    fakes = fakes_environ(FAKE_TRTLLM_SCRIPT=str(folder / "script.json"))
    fakes["PYTHONPATH"] = f"{folder}:{fakes['PYTHONPATH']}"
    return Worker(folder, resource, **(fakes | environ))


@pytest.fixture
def patched(tmp_path: Path) -> Any:
    """Return what changes the adapter in every process of a worker."""
    return lambda line: (tmp_path / "sitecustomize.py").write_text(f"{PATCH}tensorrt_llm.{line}\n")


def test_an_executor_that_is_gone_ends_the_engine_and_another_is_started(tmp_path: Path) -> None:
    worker = worker_of(tmp_path)
    try:
        worker.ready()
        before = worker.engine_pid()
        worker.relay.send(job(prompt="[[vanish]]"))
        said = worker.relay.wait(frames.Narration, action="engine_exit")
        assert "TensorRT-LLM's executor is gone" in said.human
        error = worker.relay.wait(frames.Error)
        assert (error.code, error.retryable) == ("engine_crashed", True), "who waited is not left waiting"
        worker.relay.until(frames.State, phase="ready")
        assert worker.engine_pid() != before
        worker.relay.send(job("again", prompt="Sing."))
        assert isinstance(worker.relay.until(frames.Finish)[-1], frames.Finish)
    finally:
        worker.close()


def test_a_worker_that_stops_gives_the_gpus_memory_back(tmp_path: Path) -> None:
    driver = FakeNvml(tmp_path, gpus=1)
    script = {"load": [{"vram": 40 * GIB}], "shutdown": [{"vram": GIB}]}
    worker = worker_of(tmp_path, script, **driver.environ)
    try:
        worker.ready()
        assert driver.gpus[0].used == 40 * GIB
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        assert driver.gpus[0].used == GIB
    finally:
        worker.close()


def test_without_shared_memory_it_says_what_to_mount(tmp_path: Path, patched: Any) -> None:
    patched("SHARED_MEMORY = Path('/nowhere/shm')")
    worker = worker_of(tmp_path)
    try:
        worker.relay.meet()
        failed = worker.relay.wait(frames.State, phase="failed")
        assert failed.reason == "SharedMemoryMissing"
        assert "/nowhere/shm cannot be used: No such file or directory" in failed.message
        assert "/dev/shm" in failed.message.partition("directory")[2], "and what to do"
        assert worker.wait() == names.EXIT_CANNOT_WORK
    finally:
        worker.close()


@pytest.mark.parametrize("gpus", [1, 2])
def test_little_shared_memory_is_told_where_several_gpus_share_it(tmp_path: Path, patched: Any, gpus: int) -> None:
    patched("SHARED_MEMORY_BYTES = 2**60")
    worker = worker_of(tmp_path, gpus=gpus)
    try:
        worker.relay.meet()
        told = worker.relay.until(frames.State, phase="ready")
        warned = [one for one in told if isinstance(one, frames.Narration) and one.action == "shared_memory_small"]
        assert [one.fields["gpus"] for one in warned] == [2] * (gpus > 1)
        assert all(one.level == "warn" for one in warned)
    finally:
        worker.close()

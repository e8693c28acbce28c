"""The worker process beside a driver that the test moves: what the relay, and whoever asks it, is told of the GPUs."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from rhapsode_contract import frames
from support.fake_nvml import GIB, TOTAL, FakeNvml
from support.loads import Loading
from support.processes import DEADLINE_S, manifest, playing, wait_until
from support.worker_process import Worker, actions


@contextlib.contextmanager
def beside(driver: FakeNvml, folder: Path, **options: Any) -> Iterator[Worker]:
    """A worker with the simulator, on a machine with this driver."""
    options = {"load": [], "tokensPerSecond": 100} | options
    worker = Worker(folder, manifest(engine={"options": options}), **driver.environ)
    try:
        yield worker
    finally:
        driver.state.hang = 0
        worker.close()


@pytest.fixture
def driver(tmp_path: Path) -> FakeNvml:
    """Two GPUs."""
    return FakeNvml(tmp_path)


def words_of(told: list[frames.WorkerFrame], action: str) -> str:
    """Return what was said of an action."""
    return next(one.human for one in told if isinstance(one, frames.Narration) and one.action == action)


def wait_vram(worker: Worker, wanted: Callable[[frames.Vram], bool]) -> frames.Vram:
    """Return the next vram frame that is as wanted."""
    deadline = time.monotonic() + DEADLINE_S
    while not wanted(frame := worker.relay.wait(frames.Vram)):
        assert time.monotonic() < deadline, f"the last one is {frame}"
    return frame


def test_the_gpus_are_found_and_what_they_hold_is_told_as_it_moves(driver: FakeNvml, tmp_path: Path) -> None:
    with beside(driver, tmp_path) as worker:
        worker.relay.meet()
        told = worker.relay.until(frames.State, phase="ready")
        assert actions(told)[:2] == ["start", "device_found"]
        assert words_of(told, "device_found") == "Found 2 × NVIDIA H100 80GB, 80 GiB each, driver 580.126.09"
        driver.gpus[1].used = 33 * GIB
        one, two = wait_vram(worker, lambda vram: vram.gpus[1].used_bytes == 33 * GIB).gpus
        assert (one.used_bytes, one.total_bytes, two.temperature_c, two.healthy) == (GIB, TOTAL, 41, True)
        again = worker.relay.wait(frames.Vram)
        assert again.gpus[1].used_bytes == 33 * GIB, "it is told again though nothing moved"


def test_the_ready_line_tells_memory_as_it_is_then(tmp_path: Path) -> None:
    with Loading(tmp_path, [{"wait": "go"}]) as load:
        load.until(frames.Narration, action="engine_import")
        load.take(39)
        load.until_told(40)
        load.go("go")
        load.until(frames.Narration, action="ready")
    assert load.said[-1].human.endswith("80.0 of 160 GiB VRAM in use")


def test_a_gpu_that_is_lost_and_comes_back_is_told_once_each(driver: FakeNvml, tmp_path: Path) -> None:
    with beside(driver, tmp_path) as worker:
        worker.ready()
        driver.gpus[1].error, driver.gpus[1].xid = pynvml.NVML_ERROR_GPU_IS_LOST, 79
        lost = worker.relay.wait(frames.Narration, action="gpu_lost")
        assert (lost.level, lost.target) == ("error", "GPU-00000001-fake")
        assert lost.human.endswith("cannot be asked any more: GPU is lost. Drain the node and reboot it.")
        assert "Xid 79" in worker.relay.wait(frames.Narration, action="gpu_fault").human
        one, two = worker.relay.wait(frames.Vram).gpus
        assert (one.healthy, two.healthy, two.trouble, two.xid, two.used_bytes) == (
            True,
            False,
            "GPU is lost",
            79,
            GIB,
        )
        driver.gpus[1].error = 0
        told = worker.relay.until(frames.Narration, action="gpu_back")
        assert actions(told) == ["gpu_back"]
        assert wait_vram(worker, lambda vram: vram.gpus[1].healthy).gpus[1].temperature_c == 41


def test_an_xid_is_in_the_frames_until_the_next_load(driver: FakeNvml, tmp_path: Path) -> None:
    with beside(driver, tmp_path) as worker:
        worker.ready()
        driver.gpus[0].xid = 31
        wait_vram(worker, lambda vram: vram.gpus[0].xid == 31)
        os.kill(worker.engine_pid(), signal.SIGKILL)
        worker.relay.wait(frames.State, phase="ready")
        wait_vram(worker, lambda vram: vram.gpus[0].xid is None)


def test_a_gpu_that_is_slowed_down_or_full_is_told(driver: FakeNvml, tmp_path: Path) -> None:
    with beside(driver, tmp_path) as worker:
        worker.ready()
        driver.gpus[0].throttle, driver.gpus[0].temp, driver.gpus[1].used = 0x40, 91, 79 * GIB
        assert worker.relay.wait(frames.Narration, action="vram_pressure").target == "GPU-00000001-fake"
        slow = worker.relay.wait(frames.Narration, action="gpu_throttled")
        assert slow.human == "GPU-00000000 is slowed down: too hot, 91 °C, 92.4 W. Check its cooling"
        assert worker.relay.wait(frames.Vram).gpus[0].throttle == ["hw_thermal"]


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "device_none"),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "device_none"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "device_error"),
    ],
)
def test_without_a_working_driver_there_is_no_number(
    driver: FakeNvml, tmp_path: Path, error: int, action: str
) -> None:
    driver.state.init_error = error
    with beside(driver, tmp_path) as worker:
        worker.relay.meet()
        told = worker.relay.until(frames.State, phase="ready")
        assert actions(told)[:2] == ["start", action]
        assert [frame for frame in told if isinstance(frame, frames.Vram)] == [frames.Vram(source="none")]
        assert "VRAM unknown" in words_of(told, "ready")


def test_a_library_that_cannot_be_loaded_is_no_driver(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")
    worker = Worker(tmp_path, manifest(engine={"options": {"load": []}}), LD_LIBRARY_PATH=str(tmp_path))
    try:
        worker.relay.meet()
        assert worker.relay.wait(frames.Narration, action="device_none").human.endswith("VRAM unknown (no NVML)")
        assert worker.relay.wait(frames.Vram) == frames.Vram(source="none")
    finally:
        worker.close()


def test_unified_memory_is_unsupported_and_the_gpu_is_found(driver: FakeNvml, tmp_path: Path) -> None:
    for gpu in driver.gpus[:2]:
        gpu.memory_v2_error = gpu.memory_v1_error = pynvml.NVML_ERROR_NOT_SUPPORTED
    with beside(driver, tmp_path) as worker:
        worker.relay.meet()
        found = worker.relay.wait(frames.Narration, action="device_found")
        assert found.human == "Found 2 × NVIDIA H100 80GB, driver 580.126.09"
        assert worker.relay.wait(frames.Vram) == frames.Vram(source="unsupported")
        assert "VRAM unknown (not supported)" in worker.relay.wait(frames.Narration, action="ready").human


def test_a_driver_that_hangs_from_the_start_keeps_nobody_waiting(driver: FakeNvml, tmp_path: Path) -> None:
    driver.state.hang = 1
    with beside(driver, tmp_path) as worker:
        worker.relay.meet()
        told = worker.relay.until(frames.State, phase="ready")
        assert actions(told)[:2] == ["start", "device_silent"]
        driver.state.hang = 0
        worker.relay.wait(frames.Narration, action="device_answers")
        worker.relay.wait(frames.Narration, action="device_found")
        wait_vram(worker, lambda vram: len(vram.gpus) == 2)


def test_a_driver_that_begins_to_hang_is_told_and_does_not_hold_up_the_end(driver: FakeNvml, tmp_path: Path) -> None:
    with beside(driver, tmp_path) as worker:
        worker.ready()
        worker.relay.wait(frames.Vram)
        driver.state.hang = 1
        assert worker.relay.wait(frames.Narration, action="device_silent").level == "warn"
        silent = wait_vram(worker, lambda vram: not vram.gpus[0].healthy)
        assert {gpu.trouble for gpu in silent.gpus} == {"NVML does not answer"}
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        assert worker.errors == []


def vram_if(state: dict[str, Any], used: int) -> dict[str, Any]:
    """Return what the relay knows of the GPUs, once one of them uses so much."""
    vram: dict[str, Any] = state.get("vram", {})
    return vram if any(gpu["used_bytes"] == used for gpu in vram.get("gpus", [])) else {}


def test_whoever_asks_the_relay_sees_what_the_gpus_hold(
    driver: FakeNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver.gpus[0].mig = 1
    driver.add(parent=0).total = 40 * GIB
    for name, value in driver.environ.items():
        monkeypatch.setenv(name, value)
    with playing(manifest(engine={"options": {"load": []}})) as play:
        play.wait_ready()
        driver.gpus[1].used = 60 * GIB
        vram = wait_until(lambda: vram_if(play.worker(), 60 * GIB), "the relay knows")
    instance, whole = vram["gpus"]
    assert vram["source"] == "nvml"
    assert (instance["uuid"], instance["mig"], instance["total_bytes"]) == ("MIG-00000002-fake", True, 40 * GIB)
    assert (whole["used_bytes"], whole["power_limit_w"], "mig" in whole) == (60 * GIB, 700.0, False)

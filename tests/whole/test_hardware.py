"""`make hardware` on a driver that the test plays: the arithmetic, the ways to end, and every way to fail."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from support.documents import ROOT
from support.fake_cuda import environ
from support.fake_nvml import GIB, TEMP, THROTTLE, FakeNvml
from support.hardware import (
    CONTEXT,
    HANGING,
    HASTY,
    MIB,
    PATIENCE_S,
    PATIENT,
    SHORT,
    WRONG,
    Measured,
    changes,
    failed,
    measure,
    measuring,
)
from support.processes import wait_until

NOTHING_FAILED = "Nothing failed on the way, and no Xid came"


@pytest.fixture
def driver(tmp_path: Path) -> FakeNvml:
    return FakeNvml(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reports"


# What is measured


def test_each_step_is_told_to_the_size_on_the_gpu_that_was_chosen(driver: FakeNvml, folder: Path) -> None:
    """CUDA lists GPUs in another order than NVML: the right one is found, the other one does not move."""
    driver.gpus[0].used = 3 * GIB
    status, said, measured = measure(driver, folder, "--gpu", "1", *PATIENT)
    report = measured.report()
    assert (status, failed(report)) == (0, {}), said
    opened, back = ("open the context", 0, 500), ("end", 0, -500)
    taken = [("take, 1 of 2", 64, 64), ("take, 2 of 2", 128, 64)]
    given = [("give back, 1 of 2", 64, -64), ("give back, 2 of 2", 0, -64)]
    ends, killed = report.rounds
    assert changes(ends.steps) == [opened, *taken, *given, back]
    assert changes(killed.steps) == [opened, *taken, ("kill -9", 0, -628)]
    assert [one.context_bytes for one in report.rounds] == [CONTEXT, CONTEXT]
    assert all(
        step.told_ms is not None and step.off_bytes in (0, None) for one in report.rounds for step in one.steps
    )
    assert report.held is not None
    assert (report.held.most_off_bytes, report.base_bytes) == (0, GIB)
    assert (driver.gpus[0].used, driver.gpus[1].used) == (3 * GIB, GIB)


def test_make_measures_at_the_samplers_own_pace(driver: FakeNvml, folder: Path) -> None:
    """The Makefile's verb, with nothing hurried: on a MIG instance whose driver lacks some fields."""
    driver.gpus[0].mig = 1
    driver.add(parent=0).lacks = TEMP | THROTTLE
    args = f"ARGS=--out {folder} --gpu 0 --steps 1 --step 64MiB --hold 2 {' '.join(PATIENT)}"
    done = subprocess.run(
        ["make", "-o", ".venv/.installed", "hardware", "VENV=.venv", f"BIN={Path(sys.executable).parent}", args],
        cwd=ROOT, env=os.environ | environ(driver), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = next(folder.glob("*-nvidia-h100-mig-3g-40gb.md")).read_text()
    assert "| MIG | on: this is an instance |" in page
    assert "| temperature | no: Not Supported |" in page
    assert "its own, as in a worker" in page
    assert page in done.stdout


def test_what_nvml_supports_and_costs_is_reported(driver: FakeNvml, folder: Path) -> None:
    driver.gpus[0].memory_v2_error = pynvml.NVML_ERROR_NOT_SUPPORTED
    status, said, measured = measure(driver, folder, *PATIENT)
    report = measured.report()
    assert status == 0, said
    assert report.facts.supports["memory, version 2 (reserved apart)"] == "no: Not Supported"
    assert report.facts.supports["memory, version 1"] == "yes"
    assert report.facts.supports["Xid events"] == "yes, registered"
    assert 0 < report.facts.sample_median_us <= report.facts.sample_p99_us
    assert (report.facts.driver, report.cuda, report.facts.mig_mode) == ("580.126.09", "13.1", "off")
    assert report.conf_compute == "answered: environment 0, ccFeature 0, devToolsMode 0, multiGpuMode 7"


# What fails is told, and measured as far as it went


def test_memory_that_does_not_come_back_after_kill_9_fails(driver: FakeNvml, folder: Path) -> None:
    status, said, measured = measure(driver, folder, *WRONG, keep="1")
    assert status == 1
    why = "kill -9: NVML told 628.0 MiB too much"
    assert failed(measured.report()) == {"All is back when it is killed (kill -9) with all held": why}, said


def test_memory_that_is_told_to_half_fails(driver: FakeNvml, folder: Path) -> None:
    status, said, measured = measure(driver, folder, *WRONG, shown="25")
    wrong = failed(measured.report())
    assert status == 1, said
    assert wrong["Taken memory is told, to the size"].startswith("take, 1 of 2: NVML told 48.0 MiB too little")
    assert wrong["Held memory stays as told"].startswith("off by at most 96.0 MiB")
    assert wrong["Memory given back is told, to the size"] == "give back, 1 of 2: NVML told 48.0 MiB too little"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            {"room": str(CONTEXT + 100 * MIB)},
            "take 67108864: cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (out of memory)",
        ),
        ({"hang": "cuMemsetD8_v2:3"}, "cuMemsetD8_v2 has not returned within 5 s"),
        ({"crash": "cuCtxSynchronize:3"}, "cuCtxSynchronize: the process died of SIGABRT"),
    ],
    ids=["out of memory", "a call that hangs", "a call that crashes"],
)
def test_a_call_that_fails_while_growing_ends_it_and_what_was_held_comes_back(
    driver: FakeNvml, folder: Path, fault: dict[str, str], words: str
) -> None:
    limits = HANGING if "hang" in fault else PATIENT
    status, said, measured = measure(driver, folder, *limits, **fault)
    report = measured.report()
    assert status == 1, said
    wrong = failed(report)
    assert wrong[NOTHING_FAILED] == words
    assert wrong["Taken memory is told, to the size"] == "1 of 4 were reached"
    assert wrong["All is back when it ends by itself"] == "was not reached; what it held until then is back"
    assert wrong["All is back when it is killed (kill -9) with all held"] == "was not reached"
    assert [step.name for step in report.rounds[0].steps][-2:] == ["stopped", "kill -9"]
    assert driver.gpus[0].used == GIB


def holding_until(go: Path) -> dict[str, str]:
    """Return the fault that nothing is given back before there is a file `go`; the first call is of the context."""
    return {"wait": "cuMemFree_v2:2", "go": str(go)}


def test_an_xid_and_a_lost_gpu_are_told(driver: FakeNvml, folder: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with measuring(driver, folder, *HASTY, "--call-limit", "60", **holding_until(go)) as measured:
        wait_until(lambda: driver.gpus[0].used > GIB + CONTEXT, "memory is held")
        driver.gpus[0].xid = 79
        wait_until(lambda: not driver.gpus[0].xid, "the Xid is taken")
        driver.gpus[0].error = pynvml.NVML_ERROR_GPU_IS_LOST
        go.touch()
        status, _, said = measured.done()
    words = failed(measured.report())[NOTHING_FAILED]
    assert (status, "Xid 79" in words, "GPU is lost" in words) == (1, True, True), said


def test_nvml_that_hangs_holds_nothing_up(driver: FakeNvml, folder: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with measuring(driver, folder, *HASTY, **holding_until(go)) as measured:
        wait_until(lambda: driver.gpus[0].used > GIB + CONTEXT, "memory is held")
        driver.state.hang = 1
        go.touch()
        status, _, said = measured.done()
    wrong = failed(measured.report())
    assert (status, "NVML told nothing" in wrong["Memory given back is told, to the size"]) == (1, True), said
    shield = "nvmlSystemGetConfComputeSettings does no harm, called by address"
    assert wrong[shield] == "the driver has not answered within 5 s"


# Where nothing can be measured, nothing is written


def no_driver(driver: FakeNvml) -> None:
    driver.state.init_error = pynvml.NVML_ERROR_DRIVER_NOT_LOADED


def broken_driver(driver: FakeNvml) -> None:
    driver.state.init_error = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH


def silent_driver(driver: FakeNvml) -> None:
    driver.state.hang = 1


def no_gpu(driver: FakeNvml) -> None:
    driver.state.count = 0


def one_gpu(driver: FakeNvml) -> None:
    driver.state.count = 1


def unified_memory(driver: FakeNvml) -> None:
    driver.gpus[1].memory_v2_error = driver.gpus[1].memory_v1_error = pynvml.NVML_ERROR_NOT_SUPPORTED


def full_gpu(driver: FakeNvml) -> None:
    driver.gpus[1].used = driver.gpus[1].total - GIB // 2 - 200 * MIB


def fine(driver: FakeNvml) -> None:
    """Leave the driver as it is."""


REFUSALS = [
    (no_driver, {}, "no NVIDIA driver here (Driver Not Loaded). Run this where nvidia-smi lists a GPU."),
    (
        broken_driver,
        {},
        "NVML cannot be used here (RM has detected an NVML/RM version mismatch). See that nvidia-smi works",
    ),
    (silent_driver, {}, "NVML cannot be used here: the driver has not answered within 5 s. See that"),
    (no_gpu, {}, "NVML lists no GPU here (no GPU is visible here). Give this container or machine a GPU"),
    (one_gpu, {}, "there is no GPU 1: NVML lists 1, from 0 on. Choose one with --gpu."),
    (unified_memory, {}, "NVML does not tell the memory of GPU 1 (Not Supported)"),
    (full_gpu, {}, "the GPU has 200 MiB free: too little for 2 steps of 64 MiB"),
    (fine, {"init": "803"}, "CUDA takes no memory here: open: cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
    (fine, {"init": "46"}, "CUDA takes no memory here: open: cuInit: error 46"),
    (fine, {"hang": "cuInit:1"}, "CUDA takes no memory here: cuInit has not returned within 5 s"),
    (fine, {"hidden": "1"}, "CUDA does not show it; look at CUDA_VISIBLE_DEVICES"),
]


@pytest.mark.parametrize(("trouble", "fault", "words"), REFUSALS, ids=[words[:50] for _, _, words in REFUSALS])
def test_what_cannot_be_measured_is_refused_with_what_to_do(
    driver: FakeNvml, folder: Path, trouble: Callable[[FakeNvml], None], fault: dict[str, str], words: str
) -> None:
    trouble(driver)
    limits = HANGING if driver.state.hang or "hang" in fault else PATIENT
    status, said, measured = measure(driver, folder, "--gpu", "1", *limits, **fault)
    assert (status, measured.files) == (2, []), said
    assert words in said.splitlines()[-1]


def test_a_cuda_library_that_is_none_is_refused(driver: FakeNvml, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_text("none")
    both = environ(driver)
    both["LD_LIBRARY_PATH"] = f"{tmp_path}:{both['LD_LIBRARY_PATH']}"
    measured = Measured(folder, *SHORT, *PATIENT, environ=both)
    status, _, said = measured.done()
    assert (status, measured.files) == (2, []), said
    assert "libcuda.so.1: not loaded" in said
    assert "install the NVIDIA driver's CUDA library" in said


def test_a_gpu_that_someone_else_uses_is_refused(driver: FakeNvml, folder: Path) -> None:
    driver.gpus[0].restless = 100 * MIB
    status, said, measured = measure(driver, folder, *PATIENT)
    assert (status, measured.files) == (2, []), said
    assert "someone else uses it. End that, or choose another --gpu." in said

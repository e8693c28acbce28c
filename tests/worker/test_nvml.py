"""Unmodified nvidia-ml-py against a driver that the test moves: what is read, and what a failing one does."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from rhapsode_contract import frames
from rhapsode_worker.devices import NoDriver, Nvml, NvmlError
from rhapsode_worker.sampling import Sampler
from rhapsode_worker.sightings import Reading, Sight, Xid
from rhapsode_worker.voice import Voice
from rhapsode_worker.watching_devices import DeviceWatch
from support.fake_nvml import EVENTS, GIB, LIMIT, POWER, TEMP, THROTTLE, TOTAL, UTIL, FakeNvml, using
from support.processes import DEADLINE_S, wait_until


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    """Two GPUs that this process sees."""
    with using(FakeNvml(tmp_path), monkeypatch) as fake:
        yield fake


@pytest.fixture
def sampler() -> Iterator[Callable[[], tuple[Sampler, list[Reading]]]]:
    """Start samplers that end with the test; returns one and what it reports."""
    started: list[Sampler] = []

    def start() -> tuple[Sampler, list[Reading]]:
        seen: list[Reading] = []
        started.append(Sampler(seen.append))
        started[-1].start()
        return started[-1], seen

    yield start
    for one in started:
        one.stop()
    wait_until(lambda: not any(one.alive for one in started), "the samplers end")


def look() -> tuple[Sight, ...]:
    nvml = Nvml()
    try:
        return nvml.read().gpus
    finally:
        nvml.close()


# What is read


def test_everything_that_the_driver_tells_is_read(driver: FakeNvml) -> None:
    driver.gpus[1].throttle = 0x4 | 0x40 | 0x1
    one, two = look()
    assert one == Sight(
        uuid="GPU-00000000-fake", name="NVIDIA H100 80GB", total_bytes=TOTAL, used_bytes=GIB, reserved_bytes=GIB // 2,
        utilization=0.07, temperature_c=41, power_w=92.4, power_limit_w=700.0,
    )  # fmt: skip
    assert (two.uuid, two.throttle) == ("GPU-00000001-fake", ("power_cap", "hw_thermal"))


def test_what_the_driver_does_not_support_is_absent(driver: FakeNvml) -> None:
    driver.gpus[0].lacks = UTIL | TEMP | POWER | LIMIT | THROTTLE | EVENTS
    one, two = look()
    assert (one.utilization, one.temperature_c, one.power_w, one.power_limit_w, one.throttle) == (*[None] * 4, ())
    assert (one.used_bytes, one.trouble) == (GIB, "")
    assert two.temperature_c == 41, "another GPU is another matter"


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH])
def test_memory_falls_back_to_the_first_version(driver: FakeNvml, error: int) -> None:
    driver.gpus[0].memory_v2_error = error
    assert (look()[0].used_bytes, look()[0].reserved_bytes) == (GIB + GIB // 2, None)


def test_an_old_driver_without_the_newer_calls_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with using(FakeNvml(tmp_path, old_driver=True), monkeypatch) as driver:
        driver.gpus[0].throttle = 0x8
        one, _ = look()
    assert (one.total_bytes, one.reserved_bytes, one.throttle, one.trouble) == (TOTAL, None, ("hw_slowdown",), "")


def test_unified_memory_has_no_size(driver: FakeNvml) -> None:
    for gpu in driver.gpus[:2]:
        gpu.memory_v2_error = gpu.memory_v1_error = pynvml.NVML_ERROR_NOT_SUPPORTED
    assert [(sight.total_bytes, sight.used_bytes, sight.temperature_c) for sight in look()] == [(None, None, 41)] * 2


def test_mig_instances_are_the_devices_and_their_parent_is_none(driver: FakeNvml) -> None:
    driver.gpus[0].mig = 1
    for _ in range(2):
        instance = driver.add(parent=0)
        instance.total, instance.lacks = 40 * GIB, UTIL
    whole, *instances = sorted(look(), key=lambda sight: sight.mig)
    assert (whole.uuid, whole.mig) == ("GPU-00000001-fake", False)
    assert [sight.uuid for sight in instances] == ["MIG-00000002-fake", "MIG-00000003-fake"]
    assert {(sight.total_bytes, sight.utilization) for sight in instances} == {(40 * GIB, None)}


def test_an_xid_of_a_mig_instance_is_that_instances_alone(driver: FakeNvml) -> None:
    driver.gpus[0].mig = 1
    driver.add(parent=0)
    driver.add(parent=0)
    nvml = Nvml()
    nvml.read()
    driver.gpus[0].xid_instance, driver.gpus[0].xid = 3, 31
    assert nvml.wait_xids(5) == (Xid(code=31, uuid="GPU-00000000-fake", uuids=("MIG-00000003-fake",)),)
    nvml.close()


def test_errors_of_one_gpu_are_its_own(driver: FakeNvml) -> None:
    nvml = Nvml()
    driver.gpus[0].error = pynvml.NVML_ERROR_RESET_REQUIRED
    one, two = nvml.read().gpus
    assert (one.trouble, one.remedy) == (
        "GPU requires restart", "Reset it with nvidia-smi --gpu-reset when nothing uses it.",
    )  # fmt: skip
    assert (two.trouble, two.used_bytes) == ("", GIB)
    nvml.close()


def test_a_driver_without_gpus_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with using(FakeNvml(tmp_path, gpus=0), monkeypatch):
        nvml = Nvml()
        assert nvml.read().trouble == "no GPU is visible here"
        nvml.close()


def test_no_driver_and_a_failing_one_are_told_apart(driver: FakeNvml) -> None:
    driver.state.init_error = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    with pytest.raises(NoDriver):
        Nvml()
    driver.state.init_error = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    with pytest.raises(NvmlError, match="version mismatch"):
        Nvml()


# The thread


def test_without_a_driver_the_thread_says_so_once_and_ends(
    driver: FakeNvml, sampler: Callable[[], tuple[Sampler, list[Reading]]]
) -> None:
    driver.state.init_error = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    others = set(threading.enumerate())
    thread, seen = sampler()
    wait_until(lambda: not thread.alive, "the thread ends")
    assert seen == [Reading(absent=True)]
    assert "nvml" not in [one.name for one in set(threading.enumerate()) - others]


def test_an_xid_and_a_wish_are_answered_at_once(
    driver: FakeNvml, sampler: Callable[[], tuple[Sampler, list[Reading]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rhapsode_worker.sampling.PERIOD_S", 3600.0)
    thread, seen = sampler()
    wait_until(lambda: seen, "a first sample")
    driver.gpus[1].xid = 79
    wait_until(lambda: seen[-1].xids, "the Xid is told")
    assert seen[-1].xids == (Xid(code=79, uuid="GPU-00000001-fake", uuids=("GPU-00000001-fake",)),)
    count = len(seen)
    driver.gpus[0].used = 7 * GIB
    thread.hurry()
    wait_until(lambda: len(seen) > count, "a sample is taken now")
    assert seen[-1].gpus[0].used_bytes == 7 * GIB


def test_a_gpu_that_falls_off_and_comes_back_is_found_by_a_fresh_start_of_nvml(
    driver: FakeNvml, sampler: Callable[[], tuple[Sampler, list[Reading]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rhapsode_worker.sampling.PERIOD_S", 0.02)
    monkeypatch.setattr("rhapsode_worker.sampling.REOPEN_S", 0.1)
    _, seen = sampler()
    wait_until(lambda: seen, "a first sample")
    opened = driver.state.opened
    driver.gpus[1].error, driver.gpus[1].hidden = pynvml.NVML_ERROR_GPU_IS_LOST, 1
    wait_until(lambda: len(seen[-1].gpus) == 1, "it is no longer listed")
    driver.gpus[1].error = driver.gpus[1].hidden = 0
    wait_until(lambda: len(seen[-1].gpus) == 2 and not seen[-1].gpus[1].trouble, "it is back")
    assert driver.state.opened >= opened + 2, "one that missed it, one that found it"


def test_a_driver_that_fails_at_first_is_tried_again(
    driver: FakeNvml, sampler: Callable[[], tuple[Sampler, list[Reading]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rhapsode_worker.sampling.REOPEN_S", 0.05)
    driver.state.init_error = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    _, seen = sampler()
    wait_until(lambda: len(seen) > 2, "it is tried again")
    assert {one.trouble for one in seen} == {"RM has detected an NVML/RM version mismatch"}
    driver.state.init_error = 0
    wait_until(lambda: len(seen[-1].gpus) == 2, "it works")


async def test_who_wants_it_fresh_waits_for_a_sample_of_that_moment(
    driver: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rhapsode_worker.sampling.PERIOD_S", 3600.0)
    monkeypatch.setattr("rhapsode_worker.watching_devices.FIRST_S", DEADLINE_S)
    watch = DeviceWatch(Voice(logging.getLogger("test"), lambda _: None))
    await watch.begin()
    driver.gpus[0].used = driver.gpus[1].used = 40 * GIB
    await watch.refresh(DEADLINE_S)
    assert watch.words() == "80.0 of 160 GiB VRAM in use"
    watch.sampler.stop()
    await asyncio.to_thread(wait_until, lambda: not watch.sampler.alive, "the sampler ends")


class SlowDriver:
    """One GPU, and readings that end when a test lets them."""

    def __init__(self) -> None:
        self.used = GIB
        self.begun, self.ends = threading.Semaphore(0), threading.Semaphore(0)

    def read(self) -> Reading:
        sight = Sight(uuid="GPU-0", name="H100", total_bytes=TOTAL, used_bytes=self.used)
        self.begun.release()
        self.ends.acquire(timeout=DEADLINE_S)
        return Reading(gpus=(sight,))

    def wait_xids(self, seconds: float) -> tuple[Xid, ...]:
        time.sleep(seconds)
        return ()

    def close(self) -> None:
        return


async def test_a_sample_that_is_being_read_is_not_taken_for_one_of_that_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rhapsode_worker.watching_devices.FIRST_S", DEADLINE_S)
    driver = SlowDriver()
    driver.ends.release()
    voice = Voice(logging.getLogger("test"), lambda _: None)
    watch = DeviceWatch(voice, lambda report: Sampler(report, lambda: driver))
    await watch.begin()
    watch.sampler.hurry()
    for _ in range(2):
        await asyncio.to_thread(driver.begun.acquire, timeout=DEADLINE_S)
    driver.used = 40 * GIB
    refreshing = asyncio.create_task(watch.refresh(DEADLINE_S))
    await asyncio.sleep(0)
    driver.ends.release()
    await asyncio.to_thread(driver.begun.acquire, timeout=DEADLINE_S)  # the older one has been told by now
    await asyncio.sleep(0.01)
    assert not refreshing.done()
    driver.ends.release()
    await refreshing
    assert watch.words() == "40.0 of 80 GiB VRAM in use"
    watch.sampler.stop()
    driver.ends.release()
    await asyncio.to_thread(wait_until, lambda: not watch.sampler.alive, "the sampler ends")


async def test_a_hanging_call_holds_up_neither_the_start_nor_the_end(
    driver: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rhapsode_worker.watching_devices.FIRST_S", 0.2)
    sent: list[frames.WorkerFrame] = []
    watch = DeviceWatch(Voice(logging.getLogger("test"), sent.append))
    driver.state.hang = 1
    try:
        await asyncio.wait_for(watch.begin(), DEADLINE_S)
        assert [one.action for one in sent if isinstance(one, frames.Narration)] == ["device_silent"]
        await asyncio.wait_for(watch.refresh(), DEADLINE_S)
        await asyncio.wait_for(watch.end(), DEADLINE_S)
        assert watch.sampler.alive, "it hangs still, and nobody waits"
    finally:
        driver.state.hang = 0
        deadline = time.monotonic() + DEADLINE_S
        while watch.sampler.alive and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
    assert not watch.sampler.alive

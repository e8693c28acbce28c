"""What is told of the GPUs, and when: the decisions alone, with a clock that the test holds."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract.frames import Narration, Vram
from rhapsode_worker.gauging import EVERY_S, MOVED, Gauge
from rhapsode_worker.judging import HOLD_S, SAME_XID_S
from rhapsode_worker.sightings import Reading, Sight, Xid
from rhapsode_worker.xid_codes import XID_CODES

GIB = 2**30
ONE = Sight(uuid="GPU-11111111-1111", name="H100", total_bytes=80 * GIB, used_bytes=GIB, reserved_bytes=0)
TWO = replace(ONE, uuid="GPU-22222222-2222")


def reading(*gpus: Sight, **more: Any) -> Reading:
    return Reading(gpus=gpus, **more)


def actions(told: list[Narration | Vram]) -> list[str]:
    return [one.action if isinstance(one, Narration) else "vram" for one in told]


def words(told: list[Narration | Vram]) -> str:
    return " | ".join(one.human for one in told if isinstance(one, Narration))


def begun(*gpus: Sight) -> Gauge:
    """Return a gauge that has seen these GPUs at second 0."""
    gauge = Gauge(cores=2)
    gauge.take(reading(*gpus), 0.0)
    return gauge


# What is found


def test_equal_gpus_are_found_in_one_sentence_and_others_in_another() -> None:
    told = Gauge(cores=2).take(reading(ONE, TWO, replace(ONE, uuid="GPU-3", name="L4"), driver="580"), 0.0)
    assert actions(told) == ["device_found", "device_found", "vram"]
    assert words(told) == "Found 2 × H100, 80 GiB each, driver 580 | Found 1 × L4, 80 GiB each, driver 580"


def test_no_driver_is_said_once_and_is_no_number() -> None:
    gauge = Gauge(cores=2)
    told = gauge.take(Reading(absent=True), 0.0)
    assert actions(told) == ["device_none", "vram"]
    assert told[-1] == Vram(source="none")
    assert gauge.words() == "VRAM unknown (no NVML)"


def test_a_driver_that_fails_is_said_once_and_found_when_it_works() -> None:
    gauge = Gauge(cores=2)
    broken = Reading(trouble="Driver/library version mismatch")
    assert actions(gauge.take(broken, 0.0)) == ["device_error", "vram"]
    assert gauge.words() == "VRAM unknown (NVML error)"
    assert [gauge.take(broken, at) for at in (5.0, 10.0)] == [[], []]
    assert actions(gauge.take(reading(ONE), 15.0)) == ["device_found", "vram"]
    assert gauge.words() == "1.0 of 80 GiB VRAM in use"


def test_a_gpu_that_cannot_tell_its_memory_is_found_and_has_no_numbers() -> None:
    gauge = Gauge(cores=2)
    told = gauge.take(reading(Sight(uuid="GPU-1", name="GB10")), 0.0)
    assert (words(told), told[-1]) == ("Found 1 × GB10", Vram(source="unsupported"))
    assert gauge.words() == "VRAM unknown (not supported)"


# When it is told


def test_memory_is_told_when_it_moved_by_more_than_half_a_percent() -> None:
    gauge = begun(ONE)
    nearly = replace(ONE, used_bytes=GIB + int(80 * GIB * 0.004))
    moved = replace(ONE, used_bytes=GIB + int(80 * GIB * 0.006))
    assert gauge.take(reading(nearly), 1.0) == []
    assert actions(gauge.take(reading(moved), 2.0)) == ["vram"]
    assert gauge.take(reading(moved), 3.0) == []


def test_memory_that_stands_still_is_told_every_five_seconds() -> None:
    gauge = begun(ONE)
    assert [len(gauge.take(reading(ONE), float(at))) for at in range(1, 11)] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


@given(st.lists(st.integers(0, 80 * GIB), max_size=30), st.lists(st.booleans(), max_size=30))
def test_what_was_told_last_is_never_far_from_what_is(used: list[int], reach: list[bool]) -> None:
    gauge = begun(ONE)
    last = gauge.vram
    for at, (size, well) in enumerate(zip(used, reach, strict=False)):
        now = replace(ONE, used_bytes=size, trouble="" if well else "GPU is lost")
        for told in gauge.take(reading(now), float(at) / 10):
            last = told if isinstance(told, Vram) else last
        assert last.gpus[0].healthy is well
        assert not well or abs(last.gpus[0].used_bytes - size) <= MOVED * 80 * GIB


# Lost and back


def test_a_lost_gpu_is_told_once_with_its_remedy_and_the_other_goes_on() -> None:
    gauge = begun(ONE, TWO)
    lost = replace(ONE, used_bytes=None, total_bytes=None, trouble="GPU is lost", remedy="Reboot.")
    told = gauge.take(reading(lost, replace(TWO, used_bytes=9 * GIB)), 1.0)
    assert words(told) == "H100 GPU-11111111 cannot be asked any more: GPU is lost. Reboot."
    one, two = gauge.vram.gpus
    assert (one.healthy, one.trouble, one.used_bytes, one.temperature_c) == (False, "GPU is lost", GIB, None)
    assert (two.healthy, two.used_bytes) == (True, 9 * GIB)
    assert gauge.words() == "9.0 of 80 GiB VRAM in use", "the lost one is no room"
    assert gauge.take(reading(lost, replace(TWO, used_bytes=9 * GIB)), 2.0) == []
    assert words(gauge.take(reading(ONE, TWO), 4.0)) == "H100 GPU-11111111 is back after 3 s"


def test_a_gpu_that_is_no_longer_listed_is_lost_too() -> None:
    gauge = begun(ONE, TWO)
    told = gauge.take(reading(ONE, trouble="GPU 1: GPU is lost"), 1.0)
    assert actions(told) == ["gpu_lost", "vram"]
    assert "GPU 1: GPU is lost. Look for Xid lines" in words(told)
    assert [gpu.healthy for gpu in gauge.vram.gpus] == [True, False]


def test_a_driver_that_fails_later_loses_every_gpu() -> None:
    gauge = begun(ONE, TWO)
    assert actions(gauge.take(Reading(trouble="Unknown Error"), 1.0)) == ["gpu_lost", "gpu_lost", "vram"]
    assert gauge.vram.source == "nvml", "it is known what there was"
    assert gauge.words() == "VRAM unknown (NVML error)"


def test_silence_is_told_once_and_ends_with_an_answer() -> None:
    gauge = begun(ONE)
    told = gauge.fall_silent(since=0.0, now=10.0)
    assert actions(told) == ["device_silent", "vram"]
    assert gauge.vram.gpus[0].trouble == "NVML does not answer"
    assert gauge.fall_silent(since=0.0, now=10.5) == []
    told = gauge.take(reading(ONE), 12.0)
    assert words(told) == "NVML answers again after 12 s"
    assert gauge.vram.gpus[0].healthy


# Slow, full, faulty


def slow(*reasons: str) -> Reading:
    return reading(replace(ONE, throttle=reasons, temperature_c=91))


def test_slowness_that_lasts_is_told_and_so_is_its_end() -> None:
    gauge = begun(ONE)
    told = [one for at in range(1, 9) for one in gauge.take(slow("hw_thermal"), float(at))]
    assert words(told) == "GPU-11111111 is slowed down: too hot, 91 °C. Check its cooling"
    told = [one for at in range(9, 20) for one in gauge.take(slow(), float(at))]
    assert words(told) == "GPU-11111111 runs at full speed again after 8 s"


@pytest.mark.parametrize("reasons", [("power_cap",), ()])
def test_a_power_cap_is_business_as_usual(reasons: tuple[str, ...]) -> None:
    gauge = begun(ONE)
    assert words([one for at in range(1, 30) for one in gauge.take(slow(*reasons), float(at))]) == ""


def test_slowness_that_flaps_is_not_told() -> None:
    gauge = begun(ONE)
    told = [one for at in range(100) for one in gauge.take(slow(*["sw_thermal"][at % 2 :]), at * HOLD_S / 3)]
    assert words(told) == ""


def full(share: float) -> Reading:
    return reading(replace(ONE, used_bytes=int(79 * GIB * share), total_bytes=80 * GIB, reserved_bytes=GIB))


def test_a_full_gpu_is_told_once_until_it_is_clearly_emptier() -> None:
    gauge = begun(ONE)
    shares = [0.96, 0.98, 0.96, 0.98, 0.95, 0.98, 0.90, 0.96, 0.90]
    told = [one for at, share in enumerate(shares) for one in gauge.take(full(share), float(at))]
    assert [action for action in actions(told) if action != "vram"] == ["vram_pressure", "vram_relief"]
    assert "at 98 % (78.4 GiB of 80 GiB)" in words(told), "what the driver keeps for itself counts"


def xid(code: int) -> Reading:
    return reading(ONE, xids=(Xid(code=code, uuid=ONE.uuid, uuids=(ONE.uuid,)),))


def test_an_xid_is_told_with_its_meaning_and_stays_in_the_frame() -> None:
    gauge = begun(ONE)
    told = gauge.take(xid(79), 1.0)
    assert words(told) == "GPU-11111111 reports Xid 79, the GPU has fallen off the bus. Drain the node and reboot it."
    assert gauge.vram.gpus[0].xid == 79
    gauge.take(reading(ONE), 2.0)
    assert gauge.vram.gpus[0].xid == 79


def test_an_xid_goes_from_the_frame_when_a_load_begins() -> None:
    gauge = begun(ONE)
    gauge.take(xid(45), 1.0)
    gauge.forget_faults()
    assert actions(gauge.take(reading(ONE), 2.0)) == ["vram"], "that is told at once"
    assert gauge.vram.gpus[0].xid is None


def test_an_xid_goes_from_the_frame_when_the_gpu_is_back_and_not_before() -> None:
    gauge, lost = begun(ONE), reading(replace(ONE, trouble="GPU is lost"))
    gauge.take(lost, 1.0)
    gauge.take(replace(lost, xids=xid(79).xids), 2.0)
    gauge.forget_faults()
    gauge.take(lost, 3.0)
    assert gauge.vram.gpus[0].xid == 79, "it says why"
    gauge.take(reading(ONE), 4.0)
    assert gauge.vram.gpus[0].xid is None


def test_a_storm_of_one_xid_is_told_once_a_minute() -> None:
    gauge = begun(ONE)
    told = [one for at in range(100) for one in gauge.take(xid(48), SAME_XID_S / 50 * at)]
    assert actions(told).count("gpu_fault") == 2


def test_an_xid_that_a_program_causes_is_a_warning_and_an_unknown_one_is_looked_up() -> None:
    program, unknown = begun(ONE).take(xid(31), 1.0)[0], begun(ONE).take(xid(777), 1.0)[0]
    assert isinstance(program, Narration)
    assert (program.action, program.level) == ("gpu_program_fault", "warn")
    assert isinstance(unknown, Narration)
    assert unknown.human == "GPU-11111111 reports Xid 777. Look it up in NVIDIA's Xid catalogue."


@pytest.mark.parametrize("code", XID_CODES)
def test_every_known_xid_is_a_short_sentence_with_a_remedy(code: int) -> None:
    said = words(begun(ONE).take(xid(code), 1.0))
    assert said.endswith(".")
    assert len(said) <= 140


def test_frames_are_as_often_as_they_should_be_and_no_more() -> None:
    gauge = begun(ONE)
    told = [one for at in range(1, 601) for one in gauge.take(reading(ONE), float(at))]
    assert len(told) == 600 / EVERY_S

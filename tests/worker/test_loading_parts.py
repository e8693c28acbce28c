"""The worker's parts that follow a load: what is worth telling, how long it takes, how much was read."""

from pathlib import Path

from rhapsode_contract import frames
from rhapsode_contract.catalogue import narrate
from rhapsode_worker.history import remember_times, usual_times
from rhapsode_worker.tracking import PROGRESS_S, SILENCE_S, LoadTracker
from rhapsode_worker.weighing import read_resident_bytes, resident_bytes


def said_of(stage: str, progress: float | None = None) -> frames.Narration:
    fields = {"stage": stage} if progress is None else {"stage": stage, "fraction": progress}
    return narrate("load_stage", fields, progress=progress)


def test_progress_is_told_four_times_a_second_and_never_goes_back() -> None:
    track = LoadTracker(0.0, {})
    told = [track.admit(said_of("weights", at / 100), at * 0.05) for at in range(100)]
    assert 19 <= sum(told) <= 26
    assert not track.admit(said_of("weights", 0.5), 10.0)
    assert track.admit(said_of("weights", 1.0), 10.01), "the end is always told"
    assert not track.admit(said_of("weights", 1.0), 20.0)
    assert track.admit(said_of("warm-up", 0.0), 20.0 + PROGRESS_S / 10), "another stage begins anew"


def test_progress_goes_back_when_it_is_said_that_something_begins_again() -> None:
    track = LoadTracker(0.0, {})

    def share(action: str, done: int, now: float) -> bool:
        fields = {"model": "m", "bytes_done": done, "bytes_total": 100, "fraction": done / 100}
        return track.admit(narrate(action, fields, progress=None if action == "model_resume" else done / 100), now)

    assert share("model_fetch", 90, 1.0)
    assert not share("model_fetch", 10, 2.0)
    assert share("model_resume", 0, 3.0)
    assert share("model_fetch", 10, 4.0), "a fetch that is silent for long is taken for stalled"


def test_silence_is_broken_with_what_goes_on_and_how_long_it_usually_takes() -> None:
    track = LoadTracker(0.0, {"compiling": 41.0})
    assert track.still(100.0) is None, "nothing goes on"
    track.admit(narrate("engine_build", {"model": "m", "device": "CPU"}), 100.0)
    assert track.still(100.0 + SILENCE_S - 0.1) is None
    said = track.still(100.0 + SILENCE_S)
    assert said is not None
    assert said.human == "Still compiling: 5 s (usually 41 s)"
    assert track.still(100.0 + SILENCE_S + 1) is None


def test_what_is_left_is_judged_by_last_time() -> None:
    track = LoadTracker(0.0, {"compiling": 40.0})
    said = narrate("engine_build", {"model": "m", "device": "CPU"})
    track.admit(said, 0.0)
    frame = track.load_frame(said, 10.0)
    assert frame == frames.Load(stage="compiling", percent=None, eta_s=30.0)
    assert track.finish(42.0) == {"compiling": 42.0}


def test_times_are_remembered_and_a_broken_file_is_no_matter(tmp_path: Path) -> None:
    assert usual_times(tmp_path, "k") == {}
    remember_times(tmp_path, "k", {"compiling": 4.2})
    remember_times(tmp_path, "other", {"compiling": 1.0})
    assert usual_times(tmp_path, "k") == {"compiling": 4.2}
    (tmp_path / "load-times.json").write_text("{broken")
    assert usual_times(tmp_path, "k") == {}
    remember_times(Path("/proc/nowhere"), "k", {"compiling": 1.0})


SMAPS = """7f00-7f10 r--p 00000000 08:01 42 /models/m.gguf
Size:              96088 kB
Rss:               41000 kB
7f10-7f20 r--p 00000000 08:01 42 /models/m.gguf
Rss:                1000 kB
7f20-7f30 r-xp 00000000 08:01 43 /lib/other.so
Rss:                9999 kB
"""


def test_the_kernel_says_how_much_of_a_file_was_read() -> None:
    assert resident_bytes(SMAPS, Path("/models/m.gguf")) == 42_000 * 1024
    assert resident_bytes(SMAPS, Path("/models/other.gguf")) is None
    assert read_resident_bytes(2**22 + 1, Path("/models/m.gguf")) is None


def test_a_mapping_of_this_very_process_is_seen(tmp_path: Path) -> None:
    import mmap
    import os

    path = tmp_path / "weights"
    path.write_bytes(b"x" * 8 * 2**20)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        before = read_resident_bytes(os.getpid(), path)
        assert sum(mapped[at] for at in range(0, len(mapped), 4096)) > 0
        after = read_resident_bytes(os.getpid(), path)
    assert before is not None
    assert after is not None
    assert before < after == 8 * 2**20

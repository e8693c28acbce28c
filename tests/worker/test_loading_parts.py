"""The worker's parts that follow a load: what is worth telling, how long it takes, how much was read."""

import asyncio
import logging
import math
import os
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import frames
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.resources import EngineSpec
from rhapsode_contract.sources import parse_source
from rhapsode_worker.engine_process import EngineProcess
from rhapsode_worker.history import load_key, remember_times, usual_times
from rhapsode_worker.tracking import PROGRESS_S, SILENCE_S, LoadTracker
from rhapsode_worker.voice import Voice
from rhapsode_worker.watching_weights import watch_weights
from rhapsode_worker.weighing import checkpoint_bytes, read_resident_bytes, resident_bytes
from support.processes import DEADLINE_S


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
    assert said.human == "Still compiling: 5 s (usually 41 s), ready in about 36 s"
    assert track.still(100.0 + SILENCE_S + 1) is None


def test_what_is_left_is_judged_by_last_time() -> None:
    track = LoadTracker(0.0, {"compiling": 40.0})
    said = narrate("engine_build", {"model": "m", "device": "CPU"})
    track.admit(said, 0.0)
    frame = track.load_frame(said, 10.0)
    assert frame == frames.Load(stage="compiling", percent=None, eta_s=30.0, ready_in_s=30.0)
    assert track.standing(25.0) == frames.Load(stage="compiling", percent=None, eta_s=15.0, ready_in_s=15.0)
    assert track.standing(41.0) == frames.Load(stage="compiling", percent=None, eta_s=None), "overdue: nobody knows"
    assert track.finish(42.0) == {"compiling": 42.0}
    assert track.standing(43.0) is None


def test_what_an_engine_foresees_itself_counts_down_too() -> None:
    track = LoadTracker(0.0, {})
    said = narrate("weights_load", {"model": "m", "fraction": 0.4, "eta_s": 20}, progress=0.4)
    assert track.admit(said, 10.0)
    assert track.load_frame(said, 10.0) == frames.Load(stage="loading weights", percent=40.0, eta_s=20.0)
    assert track.standing(16.0) == frames.Load(stage="loading weights", percent=40.0, eta_s=14.0)


def test_what_is_left_of_the_whole_load_is_known_where_an_earlier_one_told_all_of_it() -> None:
    usual = {
        "fetching": 300.0,
        "importing": 60.0,
        "loading": 0.5,
        "reading": 2.0,
        "loading (2)": 40.0,
        "warming": 1.0,
    }
    track = LoadTracker(0.0, usual)

    def left(stage: str, now: float) -> float | None:
        track.admit(said_of(stage), now)
        frame = track.load_frame(said_of(stage), now)
        assert frame is not None
        return frame.ready_in_s

    assert left("importing", 0.0) == 103.5, "what was fetched once is not fetched again"
    standing = track.standing(10.0)
    assert standing is not None
    assert standing.ready_in_s == 93.5
    assert track.ready_in(61.0) is None, "overdue: nobody knows"
    assert left("loading", 62.0) == 43.5
    assert left("reading", 62.2) == 43.0
    assert left("loading", 64.0) == 41.0, "the second time it is another stage"
    assert left("dancing", 70.0) is None, "nobody ever saw this one"
    assert left("warming", 80.0) == 1.0
    took = track.finish(82.0)
    assert list(took) == ["importing", "loading", "reading", "loading (2)", "dancing", "warming"]
    assert (took["loading"], took["loading (2)"]) == (0.2, 6.0)


def test_without_history_nothing_is_said_of_the_whole_load() -> None:
    track = LoadTracker(0.0, {})
    said = narrate("weights_load", {"model": "m", "fraction": 0.4, "eta_s": 20}, progress=0.4)
    track.admit(said, 0.0)
    frame = track.load_frame(said, 0.0)
    assert frame is not None
    assert (frame.eta_s, frame.ready_in_s) == (20.0, None)
    foreseen = LoadTracker(0.0, {"loading weights": 60.0, "warming up": 2.0})
    foreseen.admit(said, 0.0)
    frame = foreseen.load_frame(said, 0.0)
    assert frame is not None
    assert frame.ready_in_s == 22.0, "what the engine foresees itself is newer than history"


def test_a_stage_that_comes_again_and_again_fills_no_history() -> None:
    track = LoadTracker(0.0, {})
    for at in range(200):
        track.admit(said_of(f"stage {at % 2}"), float(at))
    took = track.finish(200.0)
    assert len(took) == 18
    assert sum(took.values()) == 200.0


def test_times_are_remembered_and_a_broken_file_is_no_matter(tmp_path: Path) -> None:
    assert usual_times(tmp_path, "k") == {}
    remember_times(tmp_path, "k", {"compiling": 4.2})
    remember_times(tmp_path, "other", {"compiling": 1.0})
    assert usual_times(tmp_path, "k") == {"compiling": 4.2}
    (tmp_path / "load-times.json").write_text('{"k": {"a": -1, "b": 1e300, "c": 2}}')
    assert usual_times(tmp_path, "k") == {"c": 2}
    remember_times(Path("/proc/nowhere"), "k", {"compiling": 1.0})


@given(
    st.one_of(st.binary(max_size=60), st.sampled_from([b"[1]", b'{"k": 1}', b'{"\xff": {}}', b'{"k": {"a": 1e999}}']))
)
def test_whatever_a_file_of_times_holds_loading_goes_on(held: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "load-times.json").write_bytes(held)
        assert all(0 <= seconds < math.inf for seconds in usual_times(Path(folder), "k").values())
        remember_times(Path(folder), "k", {"compiling": 4.2})
        assert usual_times(Path(folder), "k") == {"compiling": 4.2}


def test_times_are_those_of_the_same_engine_model_and_options() -> None:
    spec = EngineSpec(options={"a": 1, "b": 2})
    same = load_key("E", parse_source("pvc://claim/one"), spec)
    assert load_key("E", parse_source("pvc://claim/one"), EngineSpec(options={"b": 2, "a": 1})) == same
    others = [
        load_key("F", parse_source("pvc://claim/one"), spec),
        load_key("E", parse_source("pvc://claim/two"), spec),
        load_key("E", parse_source("pvc://claim/one"), EngineSpec(options={"a": 2, "b": 2})),
        load_key("E", parse_source("pvc://claim/one"), EngineSpec(max_sequences=3)),
    ]
    assert len({same, *others}) == 5


def test_a_checkpoint_weighs_what_its_weights_do(tmp_path: Path) -> None:
    assert checkpoint_bytes(tmp_path) is None
    assert checkpoint_bytes(tmp_path / "nowhere") is None
    for name, size in (("a.safetensors", 1000), ("b.safetensors", 24), ("a.bin", 5), ("config.json", 7)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert checkpoint_bytes(tmp_path) == 1024


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
    assert read_resident_bytes(os.getpid(), Path("/models/m.gguf")) is None


def test_a_process_that_has_ended_is_not_taken_for_one_that_has_read_all() -> None:
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        read_resident_bytes(ended.pid, Path("/models/m.gguf"))
    ended.wait()
    with pytest.raises(FileNotFoundError):
        read_resident_bytes(ended.pid, Path("/models/m.gguf"))


async def test_an_engine_that_dies_while_it_reads_its_weights_is_not_told_to_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.gguf").write_bytes(b"x" * 100)
    looks: list[int] = []

    def read(pid: int, _: Path) -> int:
        looks.append(pid)
        if len(looks) > 1:
            raise ProcessLookupError(pid)
        return 50

    monkeypatch.setattr("rhapsode_worker.watching_weights.read_resident_bytes", read)
    told: list[frames.WorkerFrame] = []
    voice = Voice(logging.getLogger("test"), told.append)
    voice.begin_load({})
    engine = cast("EngineProcess", SimpleNamespace(pid=1))
    watch = asyncio.create_task(watch_weights(engine, str(tmp_path / "m.gguf"), "m", voice))
    async with asyncio.timeout(DEADLINE_S):
        while len(looks) < 4:
            await asyncio.sleep(0.01)
    watch.cancel()
    said = [one for one in told if isinstance(one, frames.Narration)]
    assert [(one.action, one.progress) for one in said] == [("weights_load", 0.5)]


def test_a_mapping_of_this_very_process_is_seen(tmp_path: Path) -> None:
    import mmap

    path = tmp_path / "weights"
    path.write_bytes(b"x" * 8 * 2**20)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        before = read_resident_bytes(os.getpid(), path)
        assert sum(mapped[at] for at in range(0, len(mapped), 4096)) > 0
        after = read_resident_bytes(os.getpid(), path)
    assert before is not None
    assert after is not None
    assert before < after == 8 * 2**20

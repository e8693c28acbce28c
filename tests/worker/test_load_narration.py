"""The whole narration of an engine that tells nothing itself: real processes, recorded lines, memory that moves."""

import os
import re
import signal
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from rhapsode_contract import frames
from rhapsode_worker.tracking import SILENCE_S
from support.loads import Loading

LINES = (Path(__file__).parent / "data/tensorrt-llm-1.2-load.txt").read_text().splitlines(keepends=True)
GARBAGE = "\x1b[31m\udcff\udcfe" + "x" * 100_000 + "\n{not json}\n\x00\x07\n"
WHOLE = [
    "model_resolve", "engine_import", "engine_imported", "engine_args", "engine_spawn", "weights_room",
    "weights_size", "checkpoint_read", "weights_load", "weights_done", "kv_cache_alloc", "autotune", "graphs_capture",
    "kv_cache_measured", "kv_cache_alloc", "autotune", "graphs_capture", "engine_settled", "warmup", "ready",
]  # fmt: skip


def _at(text: str) -> int:
    return next(at for at, line in enumerate(LINES) if text in line)


def test_a_load_is_told_whole_in_order_and_once(tmp_path: Path) -> None:
    skeleton, bars = _at("for model weights"), _at("Loading safetensors")
    bar = [
        f"\rLoading weights:  {at // 10}%|█| {at}/1000 [00:0{at // 250}<00:0{4 - at // 250}, 9it/s]"
        for at in range(1001)
    ]
    script: list[str | dict[str, Any]] = [
        {"wait": "import"}, *LINES[:skeleton], GARBAGE, {"wait": "skeleton"}, LINES[skeleton], {"wait": "room"}, GARBAGE,
        *LINES[skeleton + 1 : bars + 1], *(part for at in range(0, 1001, 10) for part in ("".join(bar[at : at + 10]), {"seconds": 0.01})),
        "\n", *LINES[bars + 2 :], GARBAGE, {"wait": "read"},
    ]  # fmt: skip
    with Loading(tmp_path, script) as load:
        load.until(frames.Narration, action="engine_import")
        load.go("import")
        load.until(frames.Narration, action="engine_spawn")
        load.take(31.66)
        load.until_room(50)
        load.go("skeleton")
        load.take(63.5)
        load.until(frames.Narration, action="weights_size")
        load.go("room")
        _read_to_the_end(load)
        assert load.worker.errors == []
    assert load.actions == WHOLE
    told = [one.human for one in load.said]
    assert len(told) == len(set(told)), "nothing is said twice"
    assert sum(one.action == "weights_load" for one in load.said) < 60, "a bar does not flood"
    _check_frames(load)


def _read_to_the_end(load: Loading) -> None:
    """Let the load end when all that it printed has been read."""
    load.until(frames.Narration, action="engine_settled")
    load.go("read")
    load.until(frames.State, phase="ready")


def _check_frames(load: Loading) -> None:
    """Programs are told the same: stages in order, percents that only grow, measured ones only."""
    stages = [stage for stage, _ in groupby(one.stage for one in load.loads)]
    assert stages == [
        "importing TensorRTLLM", "setting up TensorRTLLM", "starting the worker process of TensorRTLLM",
        "taking memory for the weights", "loading weights", "reading the checkpoint", "loading weights",
        "reserving the KV cache", "autotuning", "capturing CUDA graphs", "reserving the KV cache",
        "autotuning once more", "capturing CUDA graphs once more", "warming up",
    ]  # fmt: skip
    for _, group in groupby(load.loads, key=lambda one: one.stage):
        percents = [one.percent for one in group if one.percent is not None]
        assert percents == sorted(percents)
    room = [one.percent for one in load.loads if one.stage == "taking memory for the weights"]
    assert pytest.approx(50, abs=1) in room
    assert room[-1] == pytest.approx(100, abs=2)
    assert {one.percent for one in load.loads if one.stage == "importing TensorRTLLM"} == {None}


def test_without_gpus_the_lines_tell_and_no_room_is_made_up(tmp_path: Path) -> None:
    with Loading(tmp_path, [*LINES, {"wait": "read"}], gpus=0) as load:
        _read_to_the_end(load)
    assert load.actions == [action for action in WHOLE if action != "weights_room"]


USUAL = {"importing TensorRTLLM": 230.0, "setting up TensorRTLLM": 20.0, "warming up": 5.0}


def test_a_silent_import_is_told_with_its_usual_time(tmp_path: Path) -> None:
    with Loading(tmp_path, [{"wait": "import"}], usual=USUAL) as load:
        load.until(frames.Narration, action="still")
        load.go("import")
        load.until(frames.State, phase="ready")
    still = next(one for one in load.said if one.action == "still")
    silent = still.fields["elapsed_s"]
    assert silent >= SILENCE_S
    assert still.fields["ready_in_s"] == pytest.approx(sum(USUAL.values()) - silent, abs=0.2)
    assert re.fullmatch(
        r"Still importing TensorRTLLM: .+ \(usually 3 min 50 s\), ready in about [34] min .*", still.human
    )
    left = [one.eta_s or 0 for one in load.loads if one.stage == "importing TensorRTLLM"]
    assert 0 < left[-1] < left[0] <= 230, "and what is left counts down meanwhile"
    whole = [one.ready_in_s or 0 for one in load.loads if one.stage == "importing TensorRTLLM"]
    assert [round(one - other, 1) for one, other in zip(whole, left, strict=True)] == [25.0] * len(left)


def test_an_engine_that_is_killed_while_it_loads_is_told_anew(tmp_path: Path) -> None:
    skeleton = _at("for model weights")
    with Loading(tmp_path, [*LINES[:skeleton], {"wait": "again"}, *LINES[skeleton:], {"wait": "read"}]) as load:
        load.until(frames.Narration, action="engine_spawn")
        load.take(63.5)
        load.until_room(100)
        load.take(1)
        load.until_told(2)
        os.kill(load.worker.engine_pid(), signal.SIGKILL)
        load.until(frames.Narration, action="engine_exit")
        load.told.clear()
        load.until(frames.Narration, action="engine_spawn")
        load.take(32.66)
        load.until_room(50)
        room = [one.percent for one in load.loads if one.stage == "taking memory for the weights"]
        assert room[-1] == pytest.approx(50, abs=1), "what the dead one had is not counted"
        load.go("again")
        _read_to_the_end(load)
    assert {"checkpoint_read", "engine_settled", "ready"} <= {one.action for one in load.said}

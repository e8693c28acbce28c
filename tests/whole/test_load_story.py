"""`rhapsode play` with the stand-in of TensorRT-LLM: recorded lines and moving memory become one whole story."""

import json
from pathlib import Path

import httpx
import pytest

from support.fake_nvml import GIB, FakeNvml
from support.fake_tensorrt import fakes_environ
from support.processes import manifest, playing

RECORDED = Path(__file__).parents[1] / "worker/data/tensorrt-llm-1.2-load.txt"
STORY = [
    "engine_import", "engine_imported", "engine_args", "engine_spawn", "weights_room", "weights_size",
    "checkpoint_read", "weights_load", "weights_done", "kv_cache_alloc", "autotune", "graphs_capture",
    "kv_cache_measured", "kv_cache_alloc", "autotune", "graphs_capture", "engine_settled", "warmup", "ready",
]  # fmt: skip
AWAITED = [
    ("engine_import", 1), ("engine_spawn", 1), ("weights_room", 1), ("weights_room", 2), ("weights_room", 3),
    ("engine_settled", 1),
]  # fmt: skip
"""What the engine waits for before it goes on: that this is told, for the first, second or third time."""


def _script(folder: Path) -> Path:
    """Write what the stand-in does: it prints the recorded lines, and takes memory before it tells how much.

    It waits where a word overtakes another if who hears both stands still: they come different ways.
    """
    waits: list[dict[str, object]] = [{"wait": str(folder / f"{event} {count}")} for event, count in AWAITED]
    imported, spawned, *taken, settled = waits
    lines = RECORDED.read_text().splitlines(keepends=True)
    mine = [line for line in lines if "TensorRT LLM version" not in line]
    steps: list[dict[str, object]] = []
    for line in mine:
        if "for model weights" in line:
            steps.append(spawned)
            for gib, seen in zip((21, 42, 64.4), taken, strict=True):
                steps += [{"vram": int(gib * GIB)}, seen]
        steps.append({"print": line})
    path = folder / "script.json"
    path.write_text(json.dumps({"import": [imported], "load": [*steps, settled]}))
    return path


def test_a_load_is_played_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeNvml(tmp_path, gpus=1)
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    with (checkpoint / "model.safetensors").open("wb") as file:
        file.truncate(int(63.4 * GIB))
    script = str(_script(tmp_path))
    for name, value in (fakes_environ(FAKE_TRTLLM_SCRIPT=script) | driver.environ).items():
        monkeypatch.setenv(name, value)
    resource = manifest(engine={"name": "TensorRTLLM"})
    resource["spec"]["model"] = {"source": f"file://{checkpoint}", "servedName": "m"}
    with playing(resource) as play:
        for event, count in AWAITED:
            play.wait_record(event, count=count)
            (tmp_path / f"{event} {count}").touch()
        play.wait_ready()
        told = [one for one in play.records if one.get("component") == "worker"]
        answer = httpx.get(f"{play.url}/v1/worker").json()
    events = [one["event"] for one in told if one["event"] in STORY]
    first = [event for at, event in enumerate(events) if at == 0 or events[at - 1] != event]
    assert first == STORY
    rooms = [one["progress"] for one in told if one["event"] == "weights_room"]
    assert len(rooms) == 3
    assert rooms == sorted(rooms), "what is taken only grows"
    assert answer["phase"] == "ready"

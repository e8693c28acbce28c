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


def _script(folder: Path) -> Path:
    """Write what the stand-in does: it prints the recorded lines, and takes memory before it tells how much.

    There is time to see each: a stall of the machine may take one of them, and leaves the others.
    """
    lines = RECORDED.read_text().splitlines(keepends=True)
    mine = [line for line in lines if "TensorRT LLM version" not in line]
    steps: list[dict[str, object]] = []
    for line in mine:
        if "for model weights" in line:
            steps.append({"sleep": 0.7})
            for gib in (21, 42, 64.4):
                steps += [{"vram": int(gib * GIB)}, {"sleep": 0.7}]
        steps.append({"print": line})
    path = folder / "script.json"
    path.write_text(json.dumps({"load": steps}))
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
        play.wait_ready()
        told = [one for one in play.records if one.get("component") == "worker"]
        answer = httpx.get(f"{play.url}/v1/worker").json()
    events = [one["event"] for one in told if one["event"] in STORY]
    first = [event for at, event in enumerate(events) if at == 0 or events[at - 1] != event]
    assert first == STORY
    rooms = [one["progress"] for one in told if one["event"] == "weights_room"]
    assert rooms == sorted(rooms), "what is taken only grows"
    assert answer["phase"] == "ready"

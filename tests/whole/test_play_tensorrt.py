"""`rhapsode play` with TensorRT-LLM, its package a stand-in: an answer, and failures in words that help."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.fake_tensorrt import fakes_environ
from support.plays import play, written
from support.processes import manifest

OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.06 GiB is"
    " free. Including non-PyTorch memory, this process has 78.03 GiB memory in use."
)


def resource(folder: Path, **engine: Any) -> dict[str, Any]:
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (checkpoint / "model.safetensors").write_bytes(b"x")
    wanted = manifest(engine={"name": "TensorRTLLM", **engine})
    wanted["spec"]["model"] = {"source": f"file://{checkpoint}", "servedName": "llama"}
    return wanted


def played(folder: Path, script: dict[str, Any], *args: str, **engine: Any) -> subprocess.CompletedProcess[str]:
    path = folder / "script.json"
    path.write_text(json.dumps(script))
    environ = os.environ | fakes_environ(FAKE_TRTLLM_SCRIPT=str(path))
    return play(written(folder, resource(folder, **engine)), *args, env=environ)


def test_it_answers_and_tells_what_the_engine_measured(tmp_path: Path) -> None:
    done = played(tmp_path, {}, "--ask", "Sing.", "--max-tokens", "9", "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 9
    assert "Ready after" in done.stderr
    assert "in the engine's queue, its first token after" in done.stderr


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (
            [{"raise": "Executor worker returned error", "cause": OUT_OF_MEMORY}],
            ["2.00 GiB asked, 1.06 GiB of 79.10 GiB free", "Lower spec.engine.maxSequences", "kvCacheFraction"],
        ),
        (
            [{"print": f"[TRT-LLM] [E] {OUT_OF_MEMORY}\n"}, {"raise": "Executor worker died during initialization"}],
            ["the engine ended 1 time in a row", "2.00 GiB asked, 1.06 GiB of 79.10 GiB free", "kvCacheFraction"],
        ),
        (
            [{"raise": "CUDA driver version is insufficient for CUDA runtime version"}],
            ["CUDA driver version is insufficient", "Update the node's driver"],
        ),
    ],
    ids=["wrapped", "died", "driver"],
)
def test_why_it_cannot_load_is_told_with_what_to_do(tmp_path: Path, steps: list[Any], words: list[str]) -> None:
    done = played(tmp_path, {"load": steps})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("rhapsode: Could not load llama: ")
    assert [word for word in words if word not in last] == [], last


def test_an_option_out_of_bounds_is_refused_at_once(tmp_path: Path) -> None:
    done = played(tmp_path, {"import": [{"sleep": 60}]}, options={"kvCacheFraction": 7})
    assert "Set spec.engine.options.kvCacheFraction to at most 1." in done.stderr

"""`rhapsode selfcheck` of TensorRT-LLM, its package and its driver stand-ins: what works, and what does not, is told."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.fake_nvml import GIB, FakeNvml
from support.fake_tensorrt import FAKES
from support.selfchecks import DEADLINE_S, SELFCHECK, Checked, on_tensorrt, scripted, selfcheck

QUESTIONS = ["stream", "chat", "two at once", "abort", "JSON schema", "regex", "grammar"]
OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.06 GiB is"
    " free. Including non-PyTorch memory, this process has 78.03 GiB memory in use."
)
TAKES: dict[str, Any] = {"load": [{"vram": 9 * GIB}], "shutdown": [{"vram": GIB}]}
"""A load that takes 8 GiB more than there was, and gives them back."""


@pytest.fixture
def driver(tmp_path: Path) -> FakeNvml:
    return FakeNvml(tmp_path, gpus=1)


def failed(checked: Checked, name: str) -> dict[str, Any]:
    """Return the row that failed, and see that its failure is the check's."""
    assert (checked.status, checked.report["result"]) == (1, "failed")
    row = checked.row(name)
    assert (row["outcome"], row["remedy"] != "") == ("failed", True), row
    return row


def test_all_is_well_on_a_gpu_that_gets_its_memory_back(tmp_path: Path, driver: FakeNvml) -> None:
    checked = on_tensorrt(tmp_path, TAKES, **driver.environ)
    assert (checked.status, checked.report["result"]) == (0, "ok"), checked.report
    assert checked.by_outcome.keys() <= {"ok", "warning"}, "a check of a GPU leaves nothing out"
    assert checked.row("driver")["measured"] == "driver 580.126.09, which takes CUDA up to 13.0"
    assert checked.row("GPUs")["measured"] == "NVIDIA H100 80GB: 1 GiB of 80 GiB in use"
    assert checked.row("VRAM taken")["facts"] == {"taken_bytes": 8 * GIB}
    assert checked.row("VRAM returned")["measured"] == "all of it is back"
    assert checked.row("import")["facts"]["version"] == "1.2.1"


def test_without_a_driver_what_needs_one_is_skipped_and_does_not_count_as_ok(tmp_path: Path) -> None:
    checked = on_tensorrt(tmp_path, {})
    assert checked.status == 0
    skipped = {row["name"]: row["measured"] for row in checked.report["checks"] if row["outcome"] == "skipped"}
    assert skipped == dict.fromkeys(["driver", "GPUs", "VRAM taken", "VRAM returned"], "no NVIDIA driver here")
    assert checked.report["counts"]["skipped"] == 4
    assert "--gpus all" in checked.row("driver")["remedy"]
    assert checked.outcomes(*QUESTIONS) == ["ok"] * len(QUESTIONS)


def test_a_load_without_memory_says_what_to_lower(tmp_path: Path, driver: FakeNvml) -> None:
    steps = [{"raise": "Executor worker returned error", "cause": OUT_OF_MEMORY}]
    checked = on_tensorrt(tmp_path, {"load": steps}, **driver.environ)
    row = failed(checked, "load")
    assert "2.00 GiB asked, 1.06 GiB of 79.10 GiB free" in row["measured"]
    assert "kvCacheFraction" in row["remedy"]
    assert row["facts"] == {"reason": "CUDAOutOfMemory"}
    assert {checked.row(name)["measured"] for name in (*QUESTIONS, "end")} == {"'load' failed"}
    assert checked.outcomes("VRAM returned") == ["ok"], "what a failed load took is looked at too"


def test_a_load_that_dies_shows_its_last_lines(tmp_path: Path) -> None:
    steps = [{"print": "reading shard 1\ncuMemMap failed\n"}, {"exit": 134}]
    row = failed(on_tensorrt(tmp_path, {"load": steps}), "load")
    assert row["measured"] == "the engine ended by exit code 134"
    assert row["lines"][-2:] == ["reading shard 1", "cuMemMap failed"]


def test_memory_that_does_not_come_back_is_a_failure(tmp_path: Path, driver: FakeNvml) -> None:
    row = failed(on_tensorrt(tmp_path, {"load": [{"vram": 3 * GIB}]}, **driver.environ), "VRAM returned")
    assert row["measured"].startswith("2 GiB more in use than before")
    assert row["facts"]["left_bytes"] == 2 * GIB


def test_a_name_that_the_package_lacks_is_told_before_a_request_meets_it(tmp_path: Path) -> None:
    package = tmp_path / "tensorrt_llm" / "__init__.py"
    package.parent.mkdir()
    package.write_text(
        f"__path__ = [{str(FAKES / 'tensorrt_llm')!r}]\n"
        f"exec(open({str(FAKES / 'tensorrt_llm/__init__.py')!r}).read())\n"
        "del LLM.get_stats_async\n"
    )
    environ = scripted(tmp_path, {})
    environ["PYTHONPATH"] = f"{tmp_path}:{environ['PYTHONPATH']}"
    row = failed(selfcheck("--engine", "TensorRTLLM", **environ), "signatures")
    assert row["measured"] == "there is no tensorrt_llm.LLM.get_stats_async"


def test_another_version_is_a_warning_and_no_failure(tmp_path: Path) -> None:
    checked = on_tensorrt(tmp_path, {}, FAKE_TRTLLM_VERSION="1.3.0rc2")
    assert checked.status == 0
    assert checked.row("import")["outcome"] == "warning"
    assert checked.row("import")["measured"] == "imported 1.3.0rc2; this adapter was written for 1.2"
    assert checked.outcomes("load", *QUESTIONS) == ["ok"] * (1 + len(QUESTIONS))


@pytest.mark.parametrize(
    ("steps", "words", "lines"),
    [
        (
            [{"print": "loading libnvinfer\n"}, {"exit": 139}],
            "the import ended by exit code 139",
            ["loading libnvinfer"],
        ),
        ([{"raise": "libcuda.so.1: cannot open shared object file"}], "the GPU's driver cannot be used: libcuda", []),
    ],
    ids=["crash", "no driver"],
)
def test_an_import_that_fails_is_told_and_nothing_is_loaded(
    tmp_path: Path, steps: list[Any], words: str, lines: list[str]
) -> None:
    checked = on_tensorrt(tmp_path, {"import": steps})
    row = failed(checked, "import")
    assert row["measured"].startswith(words)
    assert [line for line in lines if line not in row["lines"]] == []
    assert {checked.row(name)["measured"] for name in ("signatures", "model", "load", "end")} == {"'import' failed"}


def test_a_package_that_is_not_here_is_told_with_what_is(tmp_path: Path) -> None:
    checked = selfcheck("--engine", "TensorRTLLM")
    row = failed(checked, "package")
    assert row["measured"] == "engine TensorRTLLM needs tensorrt_llm, which is not installed here"
    assert "OpenVINO" in row["remedy"]
    assert checked.outcomes("import", "load", "stream", "VRAM returned") == ["skipped"] * 4


def test_a_driver_that_does_not_answer_holds_up_nothing(tmp_path: Path, driver: FakeNvml) -> None:
    driver.state.hang = 1
    checked = on_tensorrt(tmp_path, {}, **driver.environ)
    assert failed(checked, "driver")["measured"] == "NVML does not answer"
    assert checked.outcomes("load", "stream", "abort", "end") == ["ok"] * 4


def test_a_gpu_in_trouble_is_named(tmp_path: Path, driver: FakeNvml) -> None:
    driver.gpus[0].error = 16
    row = failed(on_tensorrt(tmp_path, {}, **driver.environ), "GPUs")
    assert row["measured"] == "GPU 0: GPU requires restart"


def test_a_broken_driver_is_no_failure_of_an_engine_that_needs_none(driver: FakeNvml) -> None:
    driver.state.init_error = 18
    checked = selfcheck("--engine", "Simulator", **driver.environ)
    assert (checked.status, checked.outcomes("driver", "GPUs")) == (0, ["warning", "warning"])
    assert "version mismatch" in checked.row("driver")["measured"]


def test_where_there_are_gpus_and_the_package_it_is_the_one_that_is_checked(tmp_path: Path, driver: FakeNvml) -> None:
    checked = selfcheck(**scripted(tmp_path, TAKES), **driver.environ)
    assert (checked.status, checked.report["engine"]) == (0, "TensorRTLLM")


def test_the_report_holds_no_secret_that_the_engine_prints(tmp_path: Path) -> None:
    said = f"node {os.uname().nodename}: GET https://me:pass@hub/x with hf_abcdefghijklmnop, or {'s3cr3t' * 3}\n"
    checked = on_tensorrt(tmp_path, {"load": [{"print": said}, {"exit": 1}]}, HUB_TOKEN="s3cr3t" * 3)
    line = failed(checked, "load")["lines"][-1]
    assert line == "node (host): GET https://(hidden)@hub/x with (hidden), or (hidden)"


def test_the_text_says_the_same_as_the_json(tmp_path: Path) -> None:
    environ = os.environ | scripted(tmp_path, {"load": [{"raise": OUT_OF_MEMORY}]})
    done = subprocess.run(
        [*SELFCHECK, "--engine", "TensorRTLLM"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("rhapsode selfcheck 0.1.0 · TensorRTLLM · a dummy Llama of 2 layers")
    assert lines[-1] == "6 ok, 1 failed, 12 skipped"
    row = next(at for at, line in enumerate(lines) if line.startswith("failed   load "))
    assert lines[row + 1].strip().startswith("→ Lower spec.engine.maxSequences")
    assert all(len(line.split("  ")) > 1 for line in lines[2:-2])


def test_the_time_that_all_may_take_is_kept(tmp_path: Path) -> None:
    checked = on_tensorrt(tmp_path, {"load": [{"sleep": 600}]}, "--timeout", "12")
    (late,) = checked.by_outcome["failed"]
    assert late in ("load", "import"), "where a machine that stands still for long lets it happen"
    assert failed(checked, late)["measured"] == "not done when the 12 s of the check were over"
    assert checked.row("stream")["measured"] == f"{late!r} failed"


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "2> >(exit 0)"])
def test_the_report_is_there_when_nobody_takes_what_it_says_meanwhile(tmp_path: Path, closed: str) -> None:
    steps = [{"print": "x" * 100 + "\n"}] * 5000
    environ = os.environ | scripted(tmp_path, {"import": steps, "load": steps})
    done = subprocess.run(
        f"{' '.join(SELFCHECK)} --engine TensorRTLLM --json {closed}", shell=True, executable="/bin/bash", env=environ, capture_output=True,
        text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)["result"]) == (0, "ok")


@pytest.mark.parametrize(("closed", "why"), [(">/dev/full", "No space left on device"), (">&-", "not writable")])
def test_a_report_that_cannot_be_written_is_a_failure(closed: str, why: str) -> None:
    done = subprocess.run(
        f"{' '.join(SELFCHECK)} --engine Simulator {closed}", shell=True, executable="/bin/bash", capture_output=True,
        text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1, f"rhapsode selfcheck: cannot write the report: {why}",
    )  # fmt: skip

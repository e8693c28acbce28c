"""A selfcheck and the processes that it starts: whatever ends one of them, nothing is left, and what happened is told."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from support.processes import is_gone, manifest, wait_until
from support.selfchecks import Checking, on_tensorrt, scripted, selfcheck

ENGINE, IMPORT = "rhapsode_worker.child", "rhapsode_worker.selfcheck.importing"
SLOW: dict[str, dict[str, Any]] = {
    IMPORT: {"import": [{"print": "here\n"}, {"sleep": 600}]},
    ENGINE: {"load": [{"print": "here\n"}, {"sleep": 600}]},
}


def gone(processes: list[psutil.Process]) -> bool:
    return all(is_gone(one.pid) for one in processes)


def simulating(folder: Path, **options: Any) -> Path:
    """Return a manifest whose engine does what a test wants."""
    path = folder / "worker.yaml"
    path.write_text(yaml.safe_dump(manifest(engine={"options": {"load": [], "tokensPerSecond": 200, **options}})))
    return path


@pytest.fixture
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """A check whose process of the module `request.param` takes for ever."""
    checking = Checking("--engine", "TensorRTLLM", **scripted(tmp_path, SLOW[request.param]))
    try:
        yield checking, checking.children(request.param)
    finally:
        checking.close()


@pytest.mark.parametrize("started", [IMPORT, ENGINE], indirect=True)
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_all_that_it_started(started: Any, sent: signal.Signals, status: int) -> None:
    checking, processes = started
    checking.process.send_signal(sent)
    assert checking.done()[0] == status
    assert gone(processes)
    assert checking.told[-1] == "rhapsode selfcheck: interrupted; the engine was ended\n"


@pytest.mark.parametrize("started", [IMPORT, ENGINE], indirect=True)
def test_a_check_that_is_killed_leaves_no_process(started: Any) -> None:
    checking, processes = started
    checking.process.kill()
    wait_until(lambda: gone(processes), "they are gone")


@pytest.mark.parametrize("started", [ENGINE], indirect=True)
def test_an_engine_that_is_killed_in_its_load_is_told(started: Any) -> None:
    checking, processes = started
    processes[0].kill()
    status, out = checking.done()
    assert status == 1
    assert "the engine ended by signal 9 (SIGKILL)" in out


def test_a_process_that_an_import_leaves_behind_holds_up_nothing(tmp_path: Path) -> None:
    left = tmp_path / "left"
    try:
        checked = on_tensorrt(tmp_path, {"import": [{"leave": str(left)}]})
        assert checked.outcomes("import", "load", "end") == ["ok"] * 3
    finally:
        for pid in left.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


def test_an_engine_that_crashes_in_an_answer_fails_that_check_and_no_other_is_made(tmp_path: Path) -> None:
    path = simulating(tmp_path, faults=[{"kind": "exit", "afterTokens": 20, "code": 3}])
    checked = selfcheck("--manifest", path)
    assert checked.status == 1
    assert checked.by_outcome["failed"] == ["stream"]
    assert checked.row("stream")["measured"] == "the engine ended by exit code 3"
    assert {checked.row(name)["measured"] for name in ("chat", "two at once", "abort", "end")} == {
        "the engine is gone"
    }


def test_an_engine_that_stalls_is_given_up_when_the_time_is_over(tmp_path: Path) -> None:
    path = simulating(tmp_path, faults=[{"kind": "stall", "afterTokens": 20}])
    checked = selfcheck("--manifest", path, "--timeout", "12")
    assert checked.by_outcome["failed"] == ["stream"]
    assert checked.row("chat")["measured"] == "the time was over"
    assert checked.row("end")["outcome"] == "ok"


def test_lines_that_are_no_frames_harm_nothing(tmp_path: Path) -> None:
    checked = selfcheck("--manifest", simulating(tmp_path, faults=[{"kind": "garbage", "afterTokens": 5}]))
    assert (checked.status, checked.row("stream")["outcome"]) == (0, "ok")


def test_a_manifest_is_what_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "worker.yaml"
    path.write_text(yaml.safe_dump(manifest(engine={"maxSequences": 1, "options": {"load": [], "seed": 7}})))
    checked = selfcheck("--manifest", path)
    assert (checked.status, checked.report["engine"], checked.report["model"]) == (
        0,
        "Simulator",
        "builtin://simulator",
    )
    assert checked.row("two at once")["measured"] == "maxSequences is 1: requests run one after the other"


def test_an_option_that_the_engine_refuses_is_told_as_a_worker_tells_it(tmp_path: Path) -> None:
    checked = selfcheck("--manifest", simulating(tmp_path, speed=9))
    row = checked.row("load")
    assert (checked.status, row["measured"]) == (1, "spec.engine.options: Object contains unknown field `speed`")
    assert (row["facts"], row["remedy"] != "") == ({"reason": "BadEngineOption"}, True)


@pytest.mark.parametrize(
    ("text", "args", "words"),
    [
        ("a: [", [], "not YAML"),
        ("{}", [], "apiVersion: required; kind: required"),
        ("---\n{}\n---\n{}", [], "expected one InferenceWorker, found 2 documents"),
        ("x" * 1_100_000, [], "longer than 1048576 bytes"),
        (yaml.safe_dump(manifest()), ["--engine", "OpenVINO"], "the manifest names Simulator, --engine OpenVINO"),
    ],
    ids=["broken", "empty", "two", "long", "another engine"],
)
def test_a_manifest_that_cannot_be_meant_is_a_wrong_command(
    tmp_path: Path, text: str, args: list[str], words: str
) -> None:
    path = tmp_path / "worker.yaml"
    path.write_text(text)
    checking = Checking("--manifest", str(path), *args)
    assert checking.done()[0] == 2
    assert (f"rhapsode selfcheck: {path}: " in checking.told[-1], words in checking.told[-1]) == (True, True)
    checking.close()


def test_a_manifest_that_is_not_there_is_a_wrong_command(tmp_path: Path) -> None:
    checking = Checking("--manifest", str(tmp_path / "nothing.yaml"))
    assert checking.done()[0] == 2
    assert "No such file or directory" in "".join(checking.told)
    checking.close()

"""The worker as a process, with the real engine process and the simulator: how it starts, fails and goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rhapsode_contract import frames, names
from rhapsode_worker.engines.simulating import simulated_text
from rhapsode_worker.joining import tokens_in
from rhapsode_worker.tracking import SILENCE_S
from support.processes import manifest
from support.worker_process import Worker, actions, job, text_of, working


def test_it_speaks_before_its_engine_does_and_tells_its_whole_start(tmp_path: Path) -> None:
    with working(
        tmp_path, load=[{"stage": "importing", "seconds": 0.3}, {"stage": "loading weights", "seconds": 0.3}]
    ) as worker:
        assert worker.wait_record("start") == worker.records[0]
        hello = worker.relay.meet()
        told = worker.relay.until(frames.State, phase="ready")
    assert (hello.engine, hello.model, hello.worker, hello.caps.slots) == ("Simulator", "sim", "sim", 8)
    said = actions(told)
    assert said[0] == "start"
    assert said[1] in ("device_none", "device_found", "device_error")
    assert said[-1] == "ready"
    assert "load_stage" in said
    loads = [(frame.stage, frame.percent) for frame in told if isinstance(frame, frames.Load)]
    assert ("importing", 0.0) in loads
    assert ("loading weights", 100.0) in loads


def test_a_request_is_told_in_order_and_logged_without_its_text(tmp_path: Path) -> None:
    with working(tmp_path) as worker:
        worker.ready()
        worker.relay.send(job(prompt="secret prompt", temperature=0.5))
        told = worker.relay.until(frames.Finish)
        worker.wait_record("inference_complete")
        kinds = [frame.action if isinstance(frame, frames.Narration) else type(frame).__name__ for frame in told]
        assert kinds[:5] == ["tokenized", "Prefill", "inference_start", "first_token", "Token"]
        assert kinds[-2:] == ["inference_complete", "Finish"]
        assert text_of(told) == simulated_text(7, "secret prompt", 10)
        finish = told[-1]
        assert isinstance(finish, frames.Finish)
        assert (finish.tokens_out, finish.stop_reason, finish.prompt_tokens) == (10, "length", 2)
        record = worker.wait_record("first_token")
        assert (record["job_id"], record["correlation_id"]) == ("sim-1", "req-1")
        logged = "".join(worker.lines)
    assert "secret" not in logged
    assert simulated_text(7, "secret prompt", 3) not in logged


def test_every_narration_is_one_record(tmp_path: Path) -> None:
    with working(tmp_path, load=[{"stage": "a", "seconds": 0.6}]) as worker:
        worker.relay.meet()
        told = worker.relay.until(frames.State, phase="ready")
        worker.relay.send(job(max_tokens=100))
        told += worker.relay.until(frames.Finish)
        worker.wait_record("inference_complete")
        records = [record["event"] for record in worker.records]
    assert records == actions(told)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSEGV])
def test_an_engine_that_is_killed_ends_its_requests_and_is_started_again(
    tmp_path: Path, sent: signal.Signals
) -> None:
    with working(tmp_path) as worker:
        worker.ready()
        worker.relay.send(job(max_tokens=10_000))
        worker.relay.wait(frames.Token)
        os.kill(worker.engine_pid(), sent)
        said = worker.relay.wait(frames.Narration, action="engine_exit")
        assert "Restarting in 0.5 s (1 of 4)" in said.human
        worker.relay.wait(frames.State, phase="loading")  # first, or its slot would be free for the next request
        error = worker.relay.wait(frames.Error)
        assert (error.job_id, error.code, error.retryable) == ("sim-1", "engine_crashed", True)
        assert f"signal {sent.value} ({sent.name})" in error.message
        assert "Send the request again." in error.message
        worker.relay.wait(frames.State, phase="ready")
        worker.relay.send(job("sim-2"))
        assert text_of(worker.relay.until(frames.Finish)) == simulated_text(7, "hello", 10)


def test_an_engine_that_ends_by_itself_leaves_its_last_words(tmp_path: Path) -> None:
    fault = {"kind": "exit", "afterTokens": 5, "code": 3, "times": 1}
    with working(tmp_path, faults=[fault]) as worker:
        worker.ready()
        worker.relay.send(job())
        error = worker.relay.wait(frames.Error)
        assert "exit code 3: simulated crash at token 5" in error.message
        worker.relay.wait(frames.State, phase="ready")
        worker.relay.send(job("sim-2"))
        assert text_of(worker.relay.until(frames.Finish)) == simulated_text(7, "hello", 10)


def test_an_engine_that_crashes_while_it_loads_is_tried_again(tmp_path: Path) -> None:
    fault = {"kind": "exit", "at": "a", "signal": 9, "times": 2}
    with working(tmp_path, load=[{"stage": "a"}], faults=[fault]) as worker:
        worker.relay.meet()
        told = worker.relay.until(frames.State, phase="ready")
    assert actions(told).count("engine_exit") == 2


def test_an_engine_that_always_crashes_ends_the_worker_with_its_last_line(tmp_path: Path) -> None:
    with working(tmp_path, load=[{"stage": "a"}], faults=[{"kind": "exit", "at": "a", "code": 9}]) as worker:
        worker.relay.meet()
        failed = worker.relay.wait(frames.State, phase="failed")
        assert failed.reason == "EngineCrash"
        assert "5 times in a row, by exit code 9: simulated crash at a" in failed.message
        assert worker.wait() == names.EXIT_CANNOT_WORK


@pytest.mark.parametrize(
    ("options", "reason", "words"),
    [
        ({"tokensPerSecond": "fast"}, "BadEngineOption", "spec.engine.options.tokensPerSecond"),
        (
            {"load": [{"stage": "w"}], "faults": [{"kind": "oom", "at": "w"}]},
            "CUDAOutOfMemory",
            "8 GiB asked, 3.2 GiB free (simulated). Lower kvCacheFraction or maxSequences.",
        ),
    ],
)
def test_a_load_that_cannot_work_names_its_remedy_and_ends_the_worker(
    tmp_path: Path, options: dict[str, Any], reason: str, words: str
) -> None:
    with working(tmp_path, **options) as worker:
        worker.relay.meet()
        said = worker.relay.wait(frames.Narration, action="load_failed")
        assert said.level == "error"
        assert words in said.human
        failed = worker.relay.wait(frames.State, phase="failed")
        assert (failed.reason, failed.message) == (reason, said.human)
        assert worker.wait() == names.EXIT_CANNOT_WORK
        assert worker.errors == [], "no traceback"


@pytest.mark.parametrize(
    ("source", "reason", "words"),
    [
        ("builtin://gpt-9", "ModelNotFound", "Known are builtin://smollm2-135m."),
        (
            "file:///no/such/model.gguf",
            "ModelNotFound",
            "/no/such/model.gguf does not exist. Correct spec.model.source.",
        ),
        ("file:///etc/hostname", "ModelNotFound", "/etc/hostname is no .gguf file"),
        ("file:///etc", "ModelNotFound", "/etc is a folder without openvino_model.xml"),
        ("pvc://claim/model", "SourceNotSupported", "is on a volume of a cluster, and this is none"),
    ],
)
def test_a_model_that_is_not_there_names_what_is(tmp_path: Path, source: str, reason: str, words: str) -> None:
    resource = manifest(engine={"name": "OpenVINO"})
    resource["spec"]["model"] = {"source": source}
    worker = Worker(tmp_path, resource)
    try:
        worker.relay.meet()
        failed = worker.relay.wait(frames.State, phase="failed")
        assert failed.reason == reason
        assert words in failed.message
        assert worker.wait() == names.EXIT_CANNOT_WORK
    finally:
        worker.close()


def test_an_engine_that_is_not_part_of_this_version_is_said_to_be_so(tmp_path: Path) -> None:
    resource = manifest(engine={"name": "TensorRTLLM"})
    resource["spec"]["model"] = {"source": f"file://{_a_model(tmp_path)}"}
    worker = Worker(tmp_path, resource)
    try:
        worker.relay.meet()
        failed = worker.relay.wait(frames.State, phase="failed")
        assert failed.reason == "EngineNotInstalled"
        assert "Set spec.engine.name to one of OpenVINO, Simulator." in failed.message
    finally:
        worker.close()


def _a_model(folder: Path) -> Path:
    path = folder / "m.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_garbage_from_the_engine_adds_nothing_and_takes_nothing(tmp_path: Path) -> None:
    with working(tmp_path, faults=[{"kind": "garbage", "afterTokens": 5}]) as worker:
        worker.ready()
        worker.relay.send(job())
        told = worker.relay.until(frames.Finish)
    assert text_of(told) == simulated_text(7, "hello", 10)


def test_a_stall_lasts_until_cancel(tmp_path: Path) -> None:
    with working(tmp_path, faults=[{"kind": "stall", "afterTokens": 5}]) as worker:
        worker.ready()
        worker.relay.send(job())
        came = 0
        while came < 5:
            came += tokens_in(worker.relay.wait(frames.Token))
        worker.relay.send(frames.Cancel(job_id="sim-1"))
        finish = worker.relay.wait(frames.Finish)
        assert (finish.stop_reason, finish.tokens_out) == ("cancelled", 5)


def test_cancel_right_behind_generate_is_not_lost(tmp_path: Path) -> None:
    with working(tmp_path, tokensPerSecond=10) as worker:
        worker.ready()
        worker.relay.send(job(max_tokens=10_000), frames.Cancel(job_id="sim-1"))
        assert worker.relay.wait(frames.Finish).stop_reason == "cancelled"


def test_an_error_of_one_request_is_its_own(tmp_path: Path) -> None:
    with working(tmp_path) as worker:
        worker.ready()
        worker.relay.send(job(prompt="word " * 3000), job("sim-2"))
        error = worker.relay.wait(frames.Error)
        assert (error.job_id, error.code, error.param, error.retryable) == (
            "sim-1",
            "context_length_exceeded",
            "prompt",
            False,
        )
        assert worker.relay.wait(frames.Finish).job_id == "sim-2"


def test_silence_while_loading_is_broken(tmp_path: Path) -> None:
    with working(tmp_path, load=[{"stage": "thinking"}], faults=[{"kind": "stall", "at": "thinking"}]) as worker:
        worker.relay.meet()
        said = worker.relay.wait(frames.Narration, action="still")
    assert said.human.startswith("Still thinking: ")
    assert said.fields["elapsed_s"] >= SILENCE_S


def test_a_worker_without_a_manifest_says_which_variable(tmp_path: Path) -> None:
    environ = {key: value for key, value in os.environ.items() if key != names.ENV_MANIFEST}
    done = subprocess.run(
        [sys.executable, "-m", "rhapsode_worker"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == names.EXIT_CANNOT_WORK
    assert done.stderr == "rhapsode-worker: RHAPSODE_MANIFEST is not set: it names the InferenceWorker manifest\n"

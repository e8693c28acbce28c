"""How full an engine's KV cache is: told to the relay while it changes, and forgotten with the engine."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rhapsode_contract import frames
from rhapsode_worker.outbox import Outbox
from support.fake_tensorrt import fakes_environ
from support.processes import manifest, wait_until
from support.worker_process import Worker, job, working


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """What TensorRT-LLM's stand-in does while it loads: nothing, unless a test writes something else."""
    path = tmp_path / "script.json"
    path.write_text("{}")
    return path


@pytest.fixture
def worker(tmp_path: Path, script: Path) -> Iterator[Worker]:
    """A worker with TensorRT-LLM's stand-in, whose KV cache has 1024 blocks."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (checkpoint / "model.safetensors").write_bytes(b"x")
    resource = manifest(engine={"name": "TensorRTLLM"})
    resource["spec"]["model"] = {"source": f"file://{checkpoint}", "servedName": "llama"}
    running = Worker(tmp_path, resource, **fakes_environ(FAKE_TRTLLM_SCRIPT=str(script)))
    yield running
    running.close()


def until_used(worker: Worker, busy: bool) -> frames.Stats:
    while True:
        stats = worker.relay.wait(frames.Stats)
        if stats.kv_total is not None and bool(stats.kv_used) is busy:
            return stats


def test_the_relay_is_told_as_it_fills_and_empties_and_hears_it_again_when_it_asks(worker: Worker) -> None:
    worker.ready()
    worker.relay.send(job(prompt="[[endless]]"))
    assert until_used(worker, busy=True).kv_total == 1024
    worker.relay.send(frames.Cancel(job_id="sim-1"))
    assert until_used(worker, busy=False).kv_total == 1024
    wait_until(lambda: asked(worker).active == 0, "the request is over")
    assert (asked(worker).kv_used, asked(worker).kv_total) == (0, 1024)


def asked(worker: Worker) -> frames.Stats:
    worker.relay.send(frames.Ping())
    return worker.relay.wait(frames.Stats)


def test_an_engine_that_is_gone_has_no_cache(worker: Worker, script: Path) -> None:
    worker.ready()
    worker.relay.send(job(prompt="[[endless]]"))
    until_used(worker, busy=True)
    script.write_text(json.dumps({"load": [{"sleep": 600}]}))  # the next engine has none to tell of before we ask
    os.kill(worker.engine_pid(), signal.SIGKILL)
    worker.relay.wait(frames.State, phase="loading")
    assert asked(worker).kv_total is None


def test_an_engine_that_tells_of_none_is_not_told_of(tmp_path: Path) -> None:
    with working(tmp_path) as worker:
        worker.ready()
        worker.relay.send(frames.Ping())
        stats = worker.relay.wait(frames.Stats)
        assert (stats.kv_used, stats.kv_total) == (None, None)


def test_a_relay_that_does_not_read_gets_the_latest_only() -> None:
    written: list[bytes] = []
    soon: list[Any] = []
    outbox = Outbox(written.append, soon.append)
    outbox.pause()
    for used in range(5):
        outbox.put(frames.Stats(kv_used=used, kv_total=9))
        outbox.put(frames.Vram(source="none"))
    outbox.resume()
    assert [b"kv_used" in line for line in b"".join(written).splitlines()] == [True, False]
    assert b'"kv_used":4' in written[0]

"""`examples/agent-and-screen`: an agent asks through a gateway, and a screen that listened before shows what happens."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from support.documents import ROOT
from support.processes import Play, free_port, manifest, playing, wait_until
from support.sdks import QUIET, SDKS, need_sdks, python_of

EXAMPLE = ROOT / "examples/agent-and-screen"
KEY = {"LITELLM_MASTER_KEY": "sk-only-for-this-test-4711"}
PATIENCE_S = 300.0


@pytest.fixture(scope="module")
def worker() -> Iterator[Play]:
    need_sdks()
    with playing(manifest(engine={"options": {"load": [], "seed": 7, "tokensPerSecond": 100}})) as play:
        play.wait_ready()
        yield play


@pytest.fixture(scope="module")
def gateway(worker: Play, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """LiteLLM's proxy before the worker, as in the example, and with a model that the setting does not name."""
    port, folder = free_port(), tmp_path_factory.mktemp("gateway")
    config = yaml.safe_load((EXAMPLE / "gateway.yaml").read_text())
    config["model_list"].append(config["model_list"][0] | {"model_name": "quiet"})
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config))
    environ = os.environ | QUIET | KEY | {"RHAPSODE_V1": f"{worker.url}/v1", "RHAPSODE_KEY": "none"}
    command: list[str | Path] = [
        SDKS / "litellm-newest/bin/python",
        SDKS / "litellm-newest/bin/litellm",
        "--config",
        "gateway.yaml",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], cwd=folder, env=environ, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/health/liveliness"), "the gateway answers", PATIENCE_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=60).status_code == 200
    except httpx.TransportError:
        return False


class Screen:
    """`screen.py`, and the lines that it has shown."""

    def __init__(self, worker: Play, correlation_id: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [python_of("newest"), EXAMPLE / "screen.py", correlation_id],
            env=os.environ | {"RHAPSODE_URL": worker.url}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: self.lines, "the screen listens", PATIENCE_S)

    def end(self) -> list[str]:
        """Return what was shown, once it has ended by itself."""
        self.process.wait(PATIENCE_S)
        self._reader.join(60)
        return self.lines

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())


def agent(url: str, correlation_id: str) -> str:
    done = subprocess.run(
        [python_of("newest"), EXAMPLE / "agent.py", correlation_id, "Sing"],
        env=os.environ | QUIET | KEY | {"GATEWAY_URL": url},
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def native(worker: Play) -> str:
    body = {"messages": [{"role": "user", "content": "Sing"}], "max_tokens": 24}
    job = httpx.post(f"{worker.url}/v1/inference", json=body).json()["job_id"]
    wait_until(lambda: worker_says(worker, job)["status"] == "completed", "the native answer is complete")
    return str(worker_says(worker, job)["text"])


def worker_says(worker: Play, job: str) -> dict[str, object]:
    said: dict[str, object] = httpx.get(f"{worker.url}/v1/inference/{job}").json()
    return said


def test_a_screen_that_listened_before_shows_what_an_agent_behind_a_gateway_caused(
    worker: Play, gateway: str
) -> None:
    with contextlib.closing(Screen(worker, "visit-42")) as screen:
        assert screen.lines == ["Listening"]
        assert agent(gateway, "visit-42") == native(worker)
        shown = screen.end()
    assert shown[1] == "· Accepted: 4 characters, up to 24 tokens"
    assert any(line.startswith("· First token after") for line in shown)


def test_a_model_without_the_setting_is_not_told_the_id(worker: Play, gateway: str) -> None:
    headers = {"Authorization": f"Bearer {KEY['LITELLM_MASTER_KEY']}", "X-Correlation-Id": "visit-43"}
    body = {"model": "quiet", "messages": [{"role": "user", "content": "Sing"}], "max_tokens": 3}
    answer = httpx.post(f"{gateway}/v1/chat/completions", headers=headers, json=body, timeout=60)
    assert answer.status_code == 200
    with httpx.stream("GET", f"{worker.url}/v1/correlations/visit-43/stream", timeout=60) as stream:
        assert not next(stream.iter_lines()).startswith(("id", "event"))

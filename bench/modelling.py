"""A real model through worker and relay, against the same engine called directly in one loop."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openvino_genai as genai

from bench.peers import free_port
from rhapsode_contract.names import default_cache
from rhapsode_worker.models import BUILTINS, find_installed

MODEL = "smollm2-135m"
TOKENS = 128
SLOTS = 4


class Speed(NamedTuple):
    """Tokens a second after the first, and ms to the first."""

    tok_s: float
    ttft_ms: float


def prompt(number: int) -> str:
    """Return a prompt that no cache has seen, and that the model answers at length."""
    return f"{number} things that a singer told the sea, one after the other, in a very long and slow song:\n1."


class Direct:
    """OpenVINO GenAI as its own examples call it."""

    def __init__(self) -> None:
        found = find_installed(BUILTINS[MODEL], default_cache(os.environ))
        if found is None:
            raise SystemExit("the model is not here yet: run `make demo` once")
        config = genai.SchedulerConfig()
        config.max_num_seqs, config.enable_prefix_caching = SLOTS, True
        self._pipeline = genai.ContinuousBatchingPipeline(str(found.path), config, "CPU", {})
        self._count = 0

    def ask(self, text: str) -> Speed:
        wishes = genai.GenerationConfig()
        wishes.max_new_tokens, wishes.do_sample = TOKENS, False
        self._count += 1
        began = time.perf_counter()
        handle = self._pipeline.add_request(self._count, text, wishes)
        arrived: list[float] = []
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            if handle.can_read():
                handle.read()
                arrived.append(time.perf_counter())
        return speed(began, arrived)


class Through:
    """The same model behind `rhapsode play`."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=120)

    def ask(self, text: str) -> Speed:
        body = {"prompt": text, "max_tokens": TOKENS, "temperature": 0}
        began = time.perf_counter()
        with self._client.stream(
            "POST", "/v1/inference", json=body, headers={"Accept": "text/event-stream"}
        ) as answer:
            arrived = [time.perf_counter() for line in answer.iter_lines() if line == "event: token"]
        return speed(began, arrived)


def speed(began: float, arrived: list[float]) -> Speed:
    return Speed((len(arrived) - 1) / (arrived[-1] - arrived[0]), (arrived[0] - began) * 1000)


@contextlib.contextmanager
def playing() -> Iterator[str]:
    """Play the model; yield the relay's address."""
    manifest: dict[str, Any] = {
        "apiVersion": "rhapsode.dev/v1alpha1", "kind": "InferenceWorker", "metadata": {"name": "bench"},
        "spec": {"model": {"source": f"builtin://{MODEL}"}, "engine": {"name": "OpenVINO", "maxSequences": SLOTS}},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path, port = Path(folder) / "m.json", free_port()
        path.write_text(json.dumps(manifest))
        command = [sys.executable, "-m", "rhapsode", "play", str(path), "--port", str(port)]
        process = subprocess.Popen([*command, "--admin-port", "0"], stdout=subprocess.DEVNULL)
        url = f"http://127.0.0.1:{port}"
        try:
            _await_ready(url)
            yield url
        finally:
            process.terminate()
            process.wait()


def _await_ready(url: str) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/v1/worker").json()["phase"] == "ready":
                return
        time.sleep(0.1)
    raise TimeoutError("the worker is not ready")


def model(rounds: int) -> tuple[Speed, Speed]:
    """Return the medians of the engine called directly, and through worker and relay, taken in turn."""
    with playing() as url:
        direct, through = Direct(), Through(url)
        for one in (direct, through):
            one.ask(prompt(0))
        seen = [(direct.ask(prompt(number)), through.ask(prompt(number))) for number in range(1, rounds + 1)]
    first, second = (Speed(*map(statistics.median, zip(*runs, strict=True))) for runs in zip(*seen, strict=True))
    return first, second

"""A real model through worker and relay, against the same engine called directly in one loop."""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import openvino_genai as genai

from bench.manifests import write_manifest
from rhapsode_contract.names import default_cache
from rhapsode_contract.resources import EngineSpec
from rhapsode_worker.models import BUILTINS, find_installed
from support.processes import free_port

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
    """The same model behind `rhapsode play`. Reads a bare socket: a client's parsing is no cost of ours."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, text: str) -> Speed:
        body = json.dumps({"prompt": text, "max_tokens": TOKENS, "temperature": 0}).encode()
        head = b"POST /v1/inference HTTP/1.1\r\nHost: b\r\nAccept: text/event-stream\r\nContent-Length: %d\r\n\r\n"
        arrived: list[float] = []
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            began = time.perf_counter()
            connection.sendall(head % len(body) + body)
            data = b""
            while b"event: done" not in data:
                data = connection.recv(1 << 16)
                arrived += [time.perf_counter()] * data.count(b"event: token")
        return speed(began, arrived)


def speed(began: float, arrived: list[float]) -> Speed:
    return Speed((len(arrived) - 1) / (arrived[-1] - arrived[0]), (arrived[0] - began) * 1000)


@contextlib.contextmanager
def playing() -> Iterator[int]:
    """Play the model; yield the relay's port."""
    with tempfile.TemporaryDirectory() as folder:
        path, port = (
            write_manifest(Path(folder), MODEL, EngineSpec(name="OpenVINO", max_sequences=SLOTS)),
            free_port(),
        )
        command = [sys.executable, "-m", "rhapsode", "play", str(path), "--port", str(port)]
        process = subprocess.Popen([*command, "--admin-port", "0"], stdout=subprocess.DEVNULL)
        try:
            _await_ready(f"http://127.0.0.1:{port}")
            yield port
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
    with playing() as port:
        direct, through = Direct(), Through(port)
        for one in (direct, through):
            one.ask(prompt(0))
        seen = [(direct.ask(prompt(number)), through.ask(prompt(number))) for number in range(1, rounds + 1)]
    first, second = (Speed(*map(statistics.median, zip(*runs, strict=True))) for runs in zip(*seen, strict=True))
    return first, second

"""The catalogue keeps its own rules, whatever facts it is given."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract.catalogue import CATALOGUE, narrate
from rhapsode_contract.wording import UNITS, clean, fields_of, fill

SAMPLE: dict[str, Any] = {
    "model": "smollm2", "worker": "smollm-0", "engine": "OpenVINO", "source": "builtin://smollm2-135m", "files": 1,
    "bytes_done": 31e6, "total_bytes": 150 * 2**30, "bytes_total": 98_362_432, "fraction": 0.44, "bytes_per_s": 12e6, "eta_s": 4.2, "ready_in_s": 61.0, "commit": "31b70e2e869a", "sha256": "b179",
    "count": 2, "name": "NVIDIA H200", "driver": "580.126", "cores": 16, "why": "no such file", "elapsed_s": 43.0,
    "usual_s": 41.0, "device": "CPU", "tokens": 1234, "done": 3, "total": 11, "ms": 43.21, "stage": "loading weights",
    "doing": "compiling", "seconds": 8.2, "slots": 8, "context_tokens": 2048, "vram": "3.1 of 141 GiB VRAM in use",
    "how": "signal 9 (SIGKILL)", "last_line": "CUDA error", "backoff_s": 2.0, "attempt": 1, "attempts": 5,
    "remedy": "Lower maxSequences.", "running": 3, "limit_s": 60, "served": 10, "port": 8080, "jobs": 2, "queued": 1,
    "grace_s": 30, "prompt_chars": 44, "max_tokens": 256, "position": 3, "cached": 32, "temperature": 0.7, "rate": 48.3,
    "reason": "stop", "who": "client", "seq": 42, "process": "worker", "url": "http://127.0.0.1:8080",
    "admin_url": "http://127.0.0.1:9101", "socket": "/run/rhapsode/worker.sock",
    "uuid": "GPU-1a2b3c4d-0000", "gpu": "GPU-1a2b3c4d", "code": 79, "meaning": "the GPU's system processor does not answer", "temperature_c": 91, "power_w": 412.5,
    "used_bytes": 138 * 2**30, "pod": "smollm-0", "node": "gpu-7", "image": "rhapsode-worker-cpu:0.1.0", "container": "worker", "peer": "smollm-1",
    "backend": "PyTorch", "again": "once more", "sink": "narratives", "host": "0.0.0.0", "what": "the first token",
    "queue_ms": 12.3, "engine_first_ms": 43.2, "version": "1.4.0", "known": "1.2", "differences": ": there is no tensorrt_llm.LLM", "size_bytes": 64 * 2**20, "gpus": 4,
}  # fmt: skip
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
ENTRIES = sorted(CATALOGUE.values())


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.action for entry in ENTRIES])
def test_an_action_keeps_the_rules_of_narration(entry: Any) -> None:
    fields = {name: SAMPLE[name] for name in entry.fields}
    said = narrate(entry.action, fields | {"target": 1})
    assert said.human
    assert len(said.human) <= 140, "one idea a line"
    assert re.fullmatch(r"[a-z_]+", entry.action)
    assert "{" not in said.human + said.cute + said.story
    assert len(EMOJI.findall(said.cute)) <= 1
    assert not EMOJI.search(said.human + said.story)
    if entry.level == "error":
        assert not said.cute, "no jokes about errors"
    for name, value in said.fields.items():
        assert isinstance(value, str | int | float), f"{name} is a plain fact"


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.action for entry in ENTRIES])
def test_a_number_that_nobody_measured_is_not_told(entry: Any) -> None:
    needed, _ = fields_of(entry.human)
    _, optional = fields_of(entry.human)
    said = narrate(entry.action, {name: SAMPLE[name] for name in entry.fields if name not in optional})
    assert "None" not in said.human
    for name in optional - needed:
        assert name not in said.fields


def test_the_actions_that_clients_may_count_on_are_there() -> None:
    lifecycle = {
        "start", "device_found", "model_resolve", "model_fetch", "engine_import", "weights_load", "kv_cache_alloc",
        "warmup", "ready", "drain", "stopped", "load_failed",
    }  # fmt: skip
    request = {
        "queued", "tokenized", "prefix_reused", "inference_start", "first_token", "tokens", "inference_complete",
        "cancelled", "failed",
    }  # fmt: skip
    assert lifecycle <= {entry.action for entry in ENTRIES if entry.audience == "lifecycle"}
    assert request <= {entry.action for entry in ENTRIES if entry.audience == "request"}


def test_a_failure_names_its_remedy() -> None:
    for action in ("load_failed", "failed"):
        assert narrate(action, SAMPLE).human.endswith("Lower maxSequences.")


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("size", 98_362_432, "98.4 MB"),
        ("size", 7.04e9, "7.04 GB"),
        ("size", 700, "0.7 kB"),
        ("gib", 8 * 2**30, "8 GiB"),
        ("span", 4.23, "4.2 s"),
        ("span", 127, "2 min 7 s"),
        ("span", 120, "2 min"),
        ("ms", 43.218, "43.2 ms"),
        ("rate", 48.321, "48.3"),
        ("percent", 0.444, "44 %"),
        ("s", 1, ""),
        ("s", 2, "s"),
    ],
)
def test_units_are_those_that_people_use(unit: str, value: float, text: str) -> None:
    assert UNITS[unit](value) == text


def test_a_part_in_brackets_vanishes_with_its_fact() -> None:
    template = "Loading[: {done} of {total}][, about {eta_s:span} left]"
    assert fill(template, {"done": 1, "total": 2, "eta_s": 3}) == "Loading: 1 of 2, about 3 s left"
    assert fill(template, {"done": 1, "total": 2}) == "Loading: 1 of 2"
    assert fill(template, {"done": 1, "eta_s": None}) == "Loading"


@given(st.text())
def test_clean_text_can_harm_no_screen_and_no_log(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= 300
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]", cleaned)
    cleaned.encode()


def test_a_table_keeps_its_lines() -> None:
    assert clean("a\tb\n1\t2\x1b[31m", table=True) == "a\tb\n1\t2 [31m"
    assert clean("a\nb") == "a b"

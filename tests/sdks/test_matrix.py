"""Every client of `docs/clients.md`, newest and oldest supported, in every situation, at a real relay and worker.

What is measured is held to `results.json`, of which the page's table is made. `RHAPSODE_SDKS=write` writes it anew.
"""

import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.cutting import cutting
from support.processes import Play, manifest, playing, wait_until
from support.sdks import DRIVERS, Driver, Run, Told, need_sdks

RESULTS = Path(__file__).parent / "results.json"
SITUATIONS = ("plain", "helper", "narration", "narrated helper", "slow", "error", "resume")
COMMITTED: list[dict[str, Any]] = json.loads(RESULTS.read_text())
CELLS = [(row["client"], row["version"], situation) for row in COMMITTED for situation in SITUATIONS]
WRITES = os.environ.get("RHAPSODE_SDKS") == "write"
Measured = dict[tuple[str, str, str], tuple[str, Told]]
BROKEN = [{"kind": "oom", "afterTokens": 5}]
FAILURE = "CUDA out of memory: 8 GiB asked"
AT_ONCE = 4
LOAD_S = 11
"""Longer than a status is held back, so that clients meet the keep-alives of a stream that has nothing to say."""


def worker(load_s: float = 0, **options: Any) -> dict[str, Any]:
    load = [{"stage": "loading weights", "seconds": load_s}]
    options = {"seed": 7, "tokensPerSecond": 60, "load": load} | options
    return manifest(engine={"maxSequences": 32, "options": options}, heartbeatSeconds=1)


@pytest.fixture(scope="module")
def measured() -> Measured:
    """How each situation went."""
    need_sdks()
    with contextlib.ExitStack() as stack:
        ready = stack.enter_context(playing(worker()))
        broken = stack.enter_context(playing(worker(faults=BROKEN)))
        ready.wait_ready()
        broken.wait_ready()
        cut = stack.enter_context(cutting(ready.url))
        urls = {"RHAPSODE_URL": ready.url, "RHAPSODE_BROKEN_URL": broken.url, "RHAPSODE_CUT_URL": cut}
        runs = _run_all(stack, urls)
        texts = {tokens: _native(ready, tokens) for tokens in (24, 200)}
        told = _finish_at_a_slow_start(runs)
    found = {(one["client"], one["version"], one["situation"]): (_judge(one, texts), one) for one in told}
    if WRITES:
        _write(found)
    return found


def _run_all(stack: contextlib.ExitStack, urls: dict[str, str]) -> list[Run]:
    """Let all drivers do what needs no loading worker, a few at once."""

    def run(driver: Driver) -> Run:
        one = Run(driver, urls)
        stack.callback(one.close)
        one.wait_waits()
        return one

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, DRIVERS))


def _finish_at_a_slow_start(runs: list[Run]) -> list[Told]:
    """Let all of them ask a worker that has just begun to load."""
    with playing(worker(load_s=LOAD_S)) as slow:
        wait_until(lambda: slow.worker().get("phase") == "loading", "the worker loads")
        for run in runs:
            run.go_on(slow.url)
        return [told for run in runs for told in run.finish()]


def _native(play: Play, tokens: int) -> str:
    """Return the text as our own endpoint has it."""
    body = {"messages": [{"role": "user", "content": "Sing"}], "max_tokens": tokens, "seed": 7}
    job = httpx.post(f"{play.url}/v1/inference", json=body).json()["job_id"]
    snapshot = wait_until(lambda: _finished(play, job), "the native answer is complete")
    return str(snapshot["text"])


def _finished(play: Play, job: str) -> dict[str, Any] | None:
    snapshot: dict[str, Any] = httpx.get(f"{play.url}/v1/inference/{job}").json()
    return snapshot if snapshot["status"] == "completed" else None


def _judge(told: Told, texts: dict[int, str]) -> str:
    """Return `yes`, `no`, or `hidden` if all is well but the narration that was asked for reaches no program."""
    situation, text = told["situation"], texts[200 if told["situation"] == "resume" else 24]
    if situation == "error":
        well = FAILURE in told["error"] and told["text"] and text.startswith(told["text"])
    else:
        well = told["error"] == "" and told["text"] == text
    if well and situation in ("narration", "narrated helper") and not told["heard"]:
        return "hidden"
    return "yes" if well else "no"


def _write(found: Measured) -> None:
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for name in SITUATIONS:
        for (client, version, situation), (verdict, _) in found.items():
            if situation == name:
                rows.setdefault((client, version), {})[name] = verdict
    table = [{"client": client, "version": version, "cells": cells} for (client, version), cells in rows.items()]
    RESULTS.write_text(json.dumps(sorted(table, key=lambda row: str(row["client"])), indent=1) + "\n")


@pytest.mark.parametrize(("client", "version", "situation"), CELLS)
def test_a_client_fares_as_the_page_says(measured: Measured, client: str, version: str, situation: str) -> None:
    row = next(row for row in COMMITTED if (row["client"], row["version"]) == (client, version))
    verdict, told = measured.get((client, version, situation), (None, None))
    assert verdict == row["cells"].get(situation), told


def test_the_page_names_every_client(measured: Measured) -> None:
    written = json.loads(RESULTS.read_text())
    assert {(row["client"], row["version"]) for row in written} == {key[:2] for key in measured}

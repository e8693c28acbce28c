"""Every program of `docs/clients.md` is run as it stands there, in the environment of its client."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.browsers import PATIENCE_MS, browsing
from support.documents import Block, blocks
from support.processes import Play, manifest, playing, wait_until
from support.sdks import NODE, PATIENCE_S, QUIET, SDKS, need_sdks, python_of

PAGE = "docs/clients.md"
BLOCKS = [block for block in blocks("python", "javascript", "html", "console", "yaml") if block.document == PAGE]
PROGRAMS = [block for block in BLOCKS if block.language in ("python", "javascript")]
WISH = {"max_tokens": 24, "seed": 0}


@pytest.fixture(scope="module")
def worker() -> Iterator[Play]:
    need_sdks()
    with playing(manifest(engine={"options": {"load": []}})) as play:
        play.wait_ready()
        yield play


def told(worker: Play, **question: object) -> str:
    """Return what the worker answers natively."""
    job = httpx.post(f"{worker.url}/v1/inference", json=question | WISH).json()["job_id"]
    url = f"{worker.url}/v1/inference/{job}"
    wait_until(lambda: httpx.get(url).json()["status"] == "completed", "the native answer is complete")
    return str(httpx.get(url).json()["text"])


def answers(worker: Play) -> set[str]:
    """Return what a program may have been told: `Sing` as a prompt, and as a message."""
    return {told(worker, prompt="Sing"), told(worker, messages=[{"role": "user", "content": "Sing"}])}


def command(block: Block, worker: Play, folder: Path) -> list[str | Path]:
    text = block.text.replace("localhost:8080", f"127.0.0.1:{worker.port}")
    if block.language == "python":
        return [python_of("litellm-newest" if "import litellm" in text else "newest"), "-c", text]
    program = folder / f"line-{block.line}.mjs"
    program.write_text(text)
    return [NODE, program]


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_program_of_the_page_prints_the_answer(block: Block, worker: Play, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(SDKS / "node-newest/node_modules")
    done = subprocess.run(
        command(block, worker, tmp_path), env=os.environ | QUIET, cwd=tmp_path,
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.removesuffix("\n") in {answer.removesuffix("\n") for answer in answers(worker)}
    if "narration" in block.text:
        assert "· Accepted: 4 characters, up to 24 tokens\n" in done.stderr


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "html"], ids=str)
def test_a_page_shows_narration_and_answer(block: Block, worker: Play) -> None:
    text = block.text.replace("localhost:8080", f"127.0.0.1:{worker.port}")
    answer = told(worker, prompt="Sing")
    with browsing() as browser:
        page = browser.new_page()
        page.route("**/mine.html", lambda route: route.fulfill(body=text, content_type="text/html"))
        page.goto(f"{worker.url}/mine.html")
        page.wait_for_function(
            "answer => document.getElementById('text').textContent === answer", arg=answer, timeout=PATIENCE_MS
        )
        assert "Accepted: 4 characters, up to 24 tokens" in (page.text_content("#narration") or "")


def test_nothing_of_the_page_is_left_out() -> None:
    assert {block.language for block in BLOCKS} == {"python", "javascript", "html"}
    assert len(PROGRAMS) == 10

"""`rhapsode play` as a person starts it: with every example, with mistakes, on a terminal and in a pipe."""

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from rhapsode_worker.engines.simulating import simulated_text
from support.commands import on_terminal
from support.documents import ROOT
from support.models import small_hub, smollm
from support.plays import PLAY, play, written
from support.processes import DEADLINE_S, manifest, playing, wait_until
from support.streams import ask

EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.yaml") if "TensorRTLLM" not in path.read_text())
"""Those that play without a GPU."""


# What works


@pytest.mark.model
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_plays_and_answers(example: Path) -> None:
    smollm()
    with small_hub() as hub:
        wish = ["--ask", "Say hello.", "--max-tokens", "20", "--temperature", "0"]
        done = play(example, *wish, env=os.environ | {"HF_ENDPOINT": hub.url})
    assert (done.returncode, len(done.stdout) > 1) == (0, True), done.stderr
    assert "Ready after" in done.stderr
    assert "First token after" in done.stderr


def test_there_are_examples() -> None:
    assert {"simulator", "smollm"} <= {path.stem for path in EXAMPLES}


def test_ask_gives_the_answer_alone_to_a_pipe(tmp_path: Path) -> None:
    done = play(written(tmp_path, manifest()), "--ask", "hello", "--seed", "7", "--max-tokens", "9")
    assert (done.returncode, done.stdout) == (0, simulated_text(7, "user: hello", 9))
    assert "Ready after" in done.stderr  # as the worker's log has it; the stream of the answer tells of the others
    assert done.stderr.index("Accepted") < done.stderr.index("First token after")
    assert not any(line.startswith("{") for line in done.stderr.splitlines())


def test_the_words_of_the_manifest_or_of_the_person(tmp_path: Path) -> None:
    path = written(tmp_path, manifest(narration="cute"))
    assert "The hall is open ✨" in play(path, "--ask", "x", "--max-tokens", "3").stderr
    assert "After" in play(path, "--ask", "x", "--max-tokens", "3", "--narration", "story").stderr
    assert play(path, "--ask", "x", "--max-tokens", "3", "--narration", "off").stderr == ""


def test_a_pipe_gets_json_lines_and_nothing_else() -> None:
    with playing() as running:
        running.wait_ready()
        with ask(running.port, "secret words", max_tokens=5) as stream:
            stream.rest()
        running.wait_record("inference_complete")
        running.send(signal.SIGTERM)
        assert running.wait() == 0
        records = [json.loads(line) for line in running.lines]
    assert [record["event"] for record in records[:1]] == ["play_start"]
    assert {"play", "relay", "worker"} <= {record["component"] for record in records}
    assert all(
        {"timestamp", "level", "component", "event", "worker_id", "message"} <= record.keys() for record in records
    )
    assert "secret" not in "".join(running.lines)
    assert running.errors == []


def test_a_terminal_gets_sentences(tmp_path: Path) -> None:
    path = written(tmp_path, manifest())
    with on_terminal("play", str(path), "--port", "0", "--admin-port", "0") as terminal:
        shown = terminal.shows("Ready after")
        terminal.process.send_signal(signal.SIGINT)
        shown += terminal.shows("Stopped after")
        assert terminal.process.wait(DEADLINE_S) == 130
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "supervisor" in plain
    assert "Playing sim at http://127.0.0.1:" in plain
    assert '{"timestamp"' not in plain


# What cannot work


def with_spec(**changes: Any) -> dict[str, Any]:
    resource = manifest()
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = resource["spec"]
        for folder in folders:
            place = place[folder]
        place[last] = value
    return resource


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        (with_spec(engine__maxSequences=0), "spec.engine.maxSequences: expected 1..1024, got 0"),
        (with_spec(engine__maxSequence=3), "spec.engine.maxSequence: unknown field; did you mean maxSequences?"),
        (with_spec(model__source="http://x"), "spec.model.source: expected builtin://NAME"),
        ("", "expected one InferenceWorker, found 0 documents"),
        ("a: [", "not YAML"),
        ("a: 1\na: 2\n", "a"),
    ],
    ids=["bound", "typo", "source", "empty", "broken", "twice"],
)
def test_a_manifest_that_is_wrong_is_one_line_with_its_path_and_rule(
    tmp_path: Path, resource: Any, words: str
) -> None:
    done = play(written(tmp_path, resource))
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"rhapsode: {tmp_path}/worker.yaml: ")
    assert words in done.stderr


def test_a_manifest_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = play(tmp_path / "none.yaml")
    assert (done.returncode, done.stderr) == (1, f"rhapsode: {tmp_path}/none.yaml: No such file or directory\n")


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        (with_spec(model__source="builtin://gpt-9", engine__name="OpenVINO"), ["gpt-9", "builtin://smollm2-135m"]),
        (with_spec(model__source="file:///no/model.gguf", engine__name="OpenVINO"), ["/no/model.gguf", "spec.model"]),
        (with_spec(engine__options={"speed": 3}), ["spec.engine.options", "speed", "docs/engines.md"]),
        (
            with_spec(engine__options={"load": [{"stage": "a"}], "faults": [{"kind": "oom", "at": "a"}]}),
            ["out of memory", "Lower"],
        ),
        (with_spec(engine__name="TensorRTLLM"), ["TensorRTLLM", "spec.engine.name", "OpenVINO"]),
    ],
    ids=["builtin", "file", "option", "oom", "trtllm"],
)
def test_a_load_that_cannot_work_ends_with_why_and_what_to_do(
    tmp_path: Path, resource: dict[str, Any], words: list[str]
) -> None:
    done = play(written(tmp_path, resource))
    assert done.returncode == 1
    last = done.stderr.splitlines()
    assert len(last) == 1, done.stderr
    assert last[0].startswith("rhapsode: Could not load ")
    for word in words:
        assert word in last[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_question_to_a_load_that_cannot_work_ends_the_same_way(tmp_path: Path) -> None:
    done = play(written(tmp_path, with_spec(engine__options={"speed": 3})), "--ask", "hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert "speed" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*PLAY, str(written(tmp_path, manifest())), "--port", str(port)],
            capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"rhapsode: port {port} of 127.0.0.1: Address already in use; choose another with --port and --admin-port\n"
    )


@pytest.mark.parametrize("port", ["70000", "-1", "eighty"])
def test_a_port_that_is_none_is_one_line(tmp_path: Path, port: str) -> None:
    command = [*PLAY, str(written(tmp_path, manifest())), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr


def test_keys_that_the_manifest_asks_for_are_not_left_out_where_others_can_reach_it(tmp_path: Path) -> None:
    resource = manifest()
    resource["spec"]["auth"] = {"secretRef": {"name": "keys"}}
    done = play(written(tmp_path, resource), "--host", "0.0.0.0")
    assert done.returncode == 1
    assert done.stderr.startswith("rhapsode: spec.auth asks for API keys and 0.0.0.0 is open to others")
    assert "--keys FOLDER" in done.stderr
    again = play(written(tmp_path, resource), "--host", "0.0.0.0", "--open")
    assert again.stderr == done.stderr, "--open is for manifests that ask for no keys"


def test_a_play_that_others_can_reach_says_how_to_close_or_open_it(tmp_path: Path) -> None:
    done = play(written(tmp_path, manifest()), "--host", "0.0.0.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "rhapsode: 0.0.0.0 is open to others: leave --host out, or name a folder with a file for each key: --keys FOLDER;"
        " --open lets everyone in\n"
    )


def test_an_open_play_says_that_it_is_open() -> None:
    with playing(manifest(), "--host", "0.0.0.0", "--open") as opened:
        said = opened.wait_record("relay_open")
        assert said["message"].startswith(f"Whoever reaches 0.0.0.0:{opened.port} may ask: there are no API keys.")
        opened.wait_ready()
        assert httpx.get(f"{opened.url}/v1/models").status_code == 200


def test_a_play_with_keys_lets_in_who_shows_one(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("first")
    with playing(manifest(), "--host", "0.0.0.0", "--keys", str(tmp_path)) as locked:
        locked.wait_record("relay_start")
        wait_until(lambda: _status(f"{locked.url}/v1/models", "first") == 200, "the key opens")
        assert _status(f"{locked.url}/v1/models", "other") == 401
        assert not [record for record in locked.records if record.get("event") == "relay_open"]


def _status(url: str, key: str) -> int:
    try:
        return httpx.get(url, headers={"Authorization": f"Bearer {key}"}).status_code
    except httpx.TransportError:
        return 0

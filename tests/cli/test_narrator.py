"""Anyone narrates: from a shell, from Python, with a table. A real relay hears it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rhapsode import Narrator
from rhapsode.narrator import CannotNarrate, draw_table
from support.processes import Relay
from support.streams import Stream

ROWS = [{"adapter": "law", "MB": 42}, {"adapter": "medicine", "MB": 7}]
DRAWN = "adapter   MB\n────────  ──\nlaw       42\nmedicine   7"


def narrate(relay: Relay, *args: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"RHAPSODE_SOCKET": str(relay.socket)}
    command = [sys.executable, "-m", "rhapsode", "narrate", *args]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def heard(stream: Stream, action: str, name: str = "narration") -> dict[str, Any]:
    while True:
        event = stream.next(name)
        if event.data["action"] == action:
            return event.data


def test_a_shell_script_narrates(relay: Relay) -> None:
    with Stream(relay.port, "/v1/worker/stream") as stream:
        done = narrate(
            relay, "Fetching weights", "--action", "fetch", "--progress", "0.4", "--level", "warn",
            "--target", "smollm2", "--field", "bytes_done=40", "--field", "host=mirror",
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        told = heard(stream, "fetch")
    assert (told["human"], told["progress"], told["level"], told["target"]) == (
        "Fetching weights",
        0.4,
        "warn",
        "smollm2",
    )
    assert told["fields"] == {"bytes_done": 40, "host": "mirror"}
    assert told["actor"] == "script"


def test_without_a_relay_the_shell_is_told_in_one_line(tmp_path: Path) -> None:
    environ = os.environ | {"RHAPSODE_SOCKET": str(tmp_path / "none.sock")}
    done = subprocess.run(
        [sys.executable, "-m", "rhapsode", "narrate", "x"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"rhapsode: no relay listens on {tmp_path}/none.sock (No such file or directory); "
        "start one, or set RHAPSODE_SOCKET to its socket\n"
    )


@pytest.mark.parametrize(
    "args", [["x", "--progress", "2"], ["x", "--progress", "half"], ["x", "--field", "novalue"], []]
)
def test_a_narration_that_makes_no_sense_is_a_usage_error(relay: Relay, args: list[str]) -> None:
    done = narrate(relay, *args)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_stage_tells_its_beginning_its_progress_and_its_end(relay: Relay) -> None:
    narrator = Narrator(relay.socket, actor="fetcher", strict=True)
    with Stream(relay.port, "/v1/worker/stream") as stream:
        with narrator.stage("adapters", "Fetching adapters", total=4) as stage:
            stage.progress(1)
            stage.progress(3, "Nearly there")
        told = [heard(stream, "adapters") for _ in range(4)]
    assert [one["human"] for one in told[:3]] == ["Fetching adapters", "Fetching adapters: 25 %", "Nearly there"]
    assert told[3]["human"].startswith("Fetching adapters: done in ")
    assert [one["progress"] for one in told] == [0.0, 0.25, 0.75, 1.0]
    assert {one["actor"] for one in told} == {"fetcher"}


def test_a_stage_that_fails_says_so_and_hides_nothing_from_its_caller(relay: Relay) -> None:
    with Stream(relay.port, "/v1/worker/stream") as stream:
        with pytest.raises(ZeroDivisionError), Narrator(relay.socket).stage("count", "Counting"):
            _ = 1 / 0
        told = [heard(stream, "count"), heard(stream, "count")]
    assert told[1]["level"] == "error"
    assert "ZeroDivisionError" in told[1]["human"]


def test_a_table_is_drawn_for_people_and_sent_for_programs(relay: Relay) -> None:
    with Stream(relay.port, "/v1/worker/stream") as stream:
        Narrator(relay.socket, strict=True).table("adapters", ROWS, title="Adapters")
        assert heard(stream, "adapters")["human"] == f"Adapters\n{DRAWN}"
        assert heard(stream, "adapters", "data")["payload"] == ROWS


def test_a_missing_relay_is_no_error_for_work_that_goes_on(tmp_path: Path) -> None:
    with Narrator(tmp_path / "none.sock").stage("x", "Working") as stage:
        stage.progress(1)
    with pytest.raises(CannotNarrate, match="no relay listens on"):
        Narrator(tmp_path / "none.sock", strict=True).say("hello")


def test_a_narration_that_is_too_long_is_refused(relay: Relay) -> None:
    with pytest.raises(CannotNarrate, match="65536 bytes"):
        Narrator(relay.socket, strict=True).say("x", payload="y" * 70_000)


@pytest.mark.parametrize(
    ("rows", "drawn"),
    [
        (ROWS, DRAWN),
        ([{"a": None, "b": "x\ny"}, {"c": 1}], "a  b    c\n─  ───  ─\n   x y\n        1"),
        ([], ""),
    ],
)
def test_tables_are_aligned(rows: list[dict[str, Any]], drawn: str) -> None:
    assert draw_table(rows) == drawn

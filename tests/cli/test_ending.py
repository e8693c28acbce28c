"""How commands end when what they write goes nowhere: a reader that has enough, a disk that is full.

Python keeps back what it writes to a pipe, so it may notice only at its very end; PYTHONUNBUFFERED, which many
containers set, hides that.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.processes import DEADLINE_S

COMMANDS = pytest.mark.parametrize("command", [["rhapsode"], ["rhapsode.kubectl"], ["rhapsode.kubectl", "watch"]])


def _run(*command: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE) -> tuple[int, str]:
    """Return status and standard error."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environ,
        stdout=stdout,
        stderr=stderr,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """A pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@COMMANDS
def test_a_reader_that_has_enough_ends_a_command_as_sigpipe_would_and_without_a_word(
    command: list[str], closed_pipe: int
) -> None:
    assert _run(*command, "--help", stdout=closed_pipe) == (141, "")


@COMMANDS
def test_a_full_disk_is_told_in_one_line(command: list[str]) -> None:
    program = "kubectl rhapsode" if command[0].endswith("kubectl") else "rhapsode"
    with Path("/dev/full").open("w") as full:
        done = _run(*command, "--help", stdout=full.fileno())
    assert done == (1, f"{program}: cannot write: No space left on device\n")


def test_a_failure_whose_words_nobody_takes_is_a_failure(closed_pipe: int) -> None:
    assert _run("rhapsode", "ask", "--url", "http://127.0.0.1:9", "x", stderr=closed_pipe)[0] == 141


@pytest.mark.parametrize("name", ["", "../pods", "choir?x=1", "choir/status", "Choir", "-n"])
@pytest.mark.parametrize("command", [["ask", "NAME", "Hello?"], ["watch", "NAME"], ["explain", "NAME"]], ids=" ".join)
def test_what_cannot_be_a_name_never_becomes_a_path_at_the_api_server(command: list[str], name: str) -> None:
    status, err = _run("rhapsode.kubectl", *(name if word == "NAME" else word for word in command))
    assert status == 2
    assert "Traceback" not in err


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1", "soon"])
@pytest.mark.parametrize("command", [["ask", "choir", "Hello?"], ["watch", "choir"]], ids=" ".join)
def test_a_timeout_that_would_never_end_is_refused(command: list[str], seconds: str) -> None:
    status, err = _run("rhapsode.kubectl", *command, f"--timeout={seconds}")
    assert (status, f"argument --timeout: '{seconds}' is no number of seconds above 0" in err) == (2, True)

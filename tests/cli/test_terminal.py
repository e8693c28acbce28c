"""What a person sees at a terminal: how far a load is, an answer and its narration, and help."""

import re
import subprocess
import sys

import pytest

from rhapsode import errors
from rhapsode_contract import frames
from support.commands import Command, on_terminal
from support.fake_worker import FakeWorker
from support.processes import DEADLINE_S, Relay, wait_until


def test_on_a_terminal_a_bar_shows_how_far_it_is(relay: Relay) -> None:
    with FakeWorker(relay.socket, ready=False) as worker, on_terminal("watch", "--url", relay.url) as terminal:
        wait_until(lambda: relay.metric("rhapsode_relay_readers") == 1, "watch is there")
        worker.send(frames.State(phase="loading"), frames.Load(stage="loading weights", percent=44.0, eta_s=12.0))
        shown = terminal.shows("about 12 s left")
    assert "loading weights" in shown
    assert "44 %" in shown


def test_on_a_terminal_an_answer_and_its_narration_do_not_run_into_each_other(
    relay: Relay, worker: FakeWorker
) -> None:
    with on_terminal("ask", "--url", relay.url, "x") as terminal:
        job = worker.begin()
        worker.speak(job, "the ans")
        worker.send(frames.Narration(human="1 token so far", action="tokens", job_id=job.job_id))
        worker.speak(job, "wer", start=1)
        worker.send(frames.Narration(human="All said", action="inference_complete", job_id=job.job_id))
        worker.finish(job, 2)
        shown = terminal.shows("All said")
    assert "the answer\r\n" in shown, "progress of tokens does not stand in the middle of the answer"


@pytest.mark.parametrize("command", [[], ["play"], ["ask"], ["watch"], ["narrate"], ["selfcheck"]])
def test_help_has_examples(command: list[str]) -> None:
    status, out, _ = Command(*command, "--help").done()
    assert status == 0
    assert "examples:\n  " in out


@pytest.mark.parametrize("program", ["rhapsode", "rhapsode.kubectl"])
def test_help_tells_every_exit_status(program: str) -> None:
    command = [sys.executable, "-m", program, "--help"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
    statuses = [value for name, value in vars(errors).items() if name.startswith("EXIT_") and name != "EXIT_HELP"]
    assert all(re.search(rf"\b{status} ", told) for status in [0, *statuses, 141])


def test_no_command_is_a_usage_error() -> None:
    status, _, err = Command().done()
    assert status == 2
    assert "usage: rhapsode" in err

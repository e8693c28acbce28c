"""`make demo-dungeon` as a person starts it: with the real model to its end, and ended in the middle."""

import re
import signal
import subprocess
import sys

import psutil
import pytest

from support.journals import FOLDER
from support.models import smollm

DEMO = [sys.executable, str(FOLDER / "demo.py")]


@pytest.mark.model
def test_three_turns_are_told_by_a_real_model_and_kept() -> None:
    smollm()
    done = subprocess.run([*DEMO, "--session", "mira"], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    told, _, kept = done.stdout.partition("The journal of mira:\n")
    assert re.findall(r"^Turn (\d)", told, re.MULTILINE) == ["1", "2", "3"]
    assert len(re.findall(r"^  written +narrative in ", told, re.MULTILINE)) == 3
    assert len(re.findall(r"^  skipped +(quest|combat): /policy/", told, re.MULTILINE)) == 3
    assert len(re.findall(r"^  narratives \d+: \d+ characters, as they were streamed$", kept, re.MULTILINE)) == 3
    assert done.stderr.index("· Ready after") < done.stderr.index("· First token after")


@pytest.mark.model
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_demo_that_is_ended_leaves_nothing_running(sent: signal.Signals, status: int) -> None:
    smollm()
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "Relay listens" in line)
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(sent)
        _, rest = process.communicate(timeout=120)
    assert process.returncode == status, said + rest
    assert "Traceback" not in rest
    assert len(started) >= 3
    _, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []

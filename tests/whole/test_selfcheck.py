"""`rhapsode selfcheck` by the command line, and by the little program that the worker's image has under this name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import Command
from support.documents import ROOT
from support.models import smollm

IMAGE_PROGRAM = ROOT / "worker_image/rhapsode"


def in_image(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the image's program; its `python` is this one."""
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        [IMAGE_PROGRAM, *args], env=environ, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.model
def test_the_command_line_checks_openvino() -> None:
    smollm()
    status, out, told = Command("selfcheck", "--engine", "OpenVINO").done(300)
    assert status == 0, out
    lines = out.splitlines()
    assert lines[0].startswith("rhapsode selfcheck 0.1.0 · OpenVINO · builtin://smollm2-135m · ")
    assert any(line.startswith("ok       JSON schema") for line in lines)
    assert "failed" not in lines[-1]
    assert "· Asking for a streamed answer\n" in told


def test_the_command_line_hands_over_arguments_and_status() -> None:
    status, out, _ = Command("selfcheck", "--engine=Simulator", "--json").done(300)
    assert (status, json.loads(out)["engine"]) == (0, "Simulator")
    status, _, err = Command("selfcheck", "--timeout", "-1").done()
    assert (status, "expected seconds, more than 0 and at most 86400, got '-1'" in err) == (2, True)
    status, out, _ = Command("selfcheck", "--help").done()
    assert (status, "--manifest FILE" in out) == (0, True)


def test_the_image_has_the_check_under_the_same_name() -> None:
    done = in_image("selfcheck", "--engine", "Simulator", "--json")
    assert (done.returncode, json.loads(done.stdout)["result"]) == (0, "ok")


def test_the_image_gives_an_engine_a_home_where_there_is_none(tmp_path: Path) -> None:
    """Our user has none in the image: Docker names the root."""
    (tmp_path / "python").write_text('#!/bin/sh\necho "$HOME"\n')
    (tmp_path / "python").chmod(0o755)
    for home, used in (("/proc/nowhere", str(tmp_path)), (str(tmp_path), str(tmp_path))):
        environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": home, "TMPDIR": str(tmp_path)}
        done = subprocess.run([IMAGE_PROGRAM, "selfcheck"], env=environ, capture_output=True, text=True, check=True)
        assert done.stdout == f"{used}\n"


@pytest.mark.parametrize("args", [[], ["play", "worker.yaml"]], ids=["nothing", "play"])
def test_the_image_says_what_it_has_not(args: list[str]) -> None:
    done = in_image(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rhapsode: this image has the command 'rhapsode selfcheck' only")

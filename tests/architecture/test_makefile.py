"""The Makefile on a machine without a fitting Python."""

import os
import subprocess
from pathlib import Path

from support.documents import ROOT


def test_an_unsuitable_python_is_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("python", "python3", "python3.11", "python3.12", "python3.13"):
        fake = tmp_path / name
        fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
        fake.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["make", "install", f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert said[0].startswith("rhapsode needs Python 3.11 or newer with venv; found Python 3.9.2.")

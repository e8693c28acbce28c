"""`kubectl rhapsode`, as scenarios run it."""

import os
import subprocess
import sys
from pathlib import Path

PATH = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run(*args: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the plugin to its end."""
    command = ["kubectl", "rhapsode", *args]
    settings = os.environ | PATH | (environ or {})
    return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=150, check=False)

"""`rhapsode play` as a person starts it, to its end."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from support.processes import free_port

PLAY = [sys.executable, "-m", "rhapsode", "play"]


def play(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    ports = ["--port", str(free_port()), "--admin-port", str(free_port())]
    return subprocess.run(
        [*PLAY, *ports, *map(str, args)], capture_output=True, text=True, timeout=120, check=False, **options
    )


def written(folder: Path, resource: Any) -> Path:
    path = folder / "worker.yaml"
    path.write_text(resource if isinstance(resource, str) else yaml.safe_dump(resource))
    return path

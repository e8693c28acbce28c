"""`rhapsode play` as a person starts it, to its end, and how to hold it in the middle."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from support.processes import Play, free_port, held

PLAY = [sys.executable, "-m", "rhapsode", "play"]


def play(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    ports = ["--port", str(free_port()), "--admin-port", str(free_port())]
    return subprocess.run(
        [*PLAY, *ports, *map(str, args)], capture_output=True, text=True, timeout=300, check=False, **options
    )


def written(folder: Path, resource: Any) -> Path:
    path = folder / "worker.yaml"
    path.write_text(resource if isinstance(resource, str) else yaml.safe_dump(resource))
    return path


@contextlib.contextmanager
def speechless(play: Play) -> Iterator[None]:
    """Stop the engine's process meanwhile: what is done in the middle of a load or an answer is done in its middle."""
    (engine,) = play.pids("rhapsode_worker.child")
    with held(engine):
        yield

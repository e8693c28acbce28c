"""Fetch from a hub of our own, here or in a process that can be killed, and hear what is told."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode_worker.asking_hub import Hub as Client
from rhapsode_worker.fetching_hub import HubFetch, Wish
from rhapsode_worker.models import ModelFiles

REPO = "org/model"
GGUF = os.urandom(1 << 20) * 4
"""4 MiB that no hash takes for anything else."""


class Told(NamedTuple):
    """Something that a fetch said."""

    action: str
    fields: dict[str, Any]


def fetch(
    cache: Path,
    told: list[Told] | None = None,
    *,
    revision: str = "main",
    engine: str = "OpenVINO",
    offline: bool = False,
    pause: Callable[[float], None] = lambda _: None,
) -> ModelFiles:
    """Fetch `org/model` from the hub that HF_ENDPOINT names; pauses take no time unless the test says so."""
    heard = [] if told is None else told

    def say(action: str, *, progress: float | None = None, **fields: Any) -> None:
        heard.append(Told(action, {"progress": progress, **fields}))

    wish = Wish(model="model", revision=revision, engine=engine, cache=cache, offline=offline)
    return HubFetch(Client(REPO), wish, say, pause).fetch()


_PROGRAM = """
import json, sys
from pathlib import Path
from support.hub_fetches import fetch
from rhapsode_worker.errors import LoadError
try:
    print(fetch(Path(sys.argv[1])).path)
except LoadError as exc:
    print(json.dumps([exc.reason, str(exc)]))
"""


NO_LOCKS = "from rhapsode_worker import hub_cache\nhub_cache._lock = lambda _: True\n"
"""Before a fetch: its volume's locks hold nobody."""


def files_up_to(size: int) -> str:
    """Return what goes before a fetch whose files may grow so far."""
    return f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({size}, -1))\n"


def fetching(cache: Path, before: str = "") -> subprocess.Popen[str]:
    """Fetch in a process, after a piece of program; what it says at its end is a path, or a reason and words."""
    return subprocess.Popen(
        [sys.executable, "-c", before + _PROGRAM, str(cache)],
        cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def actions(told: list[Told]) -> list[str]:
    """Return what was told, each action once, in order."""
    return list(dict.fromkeys(one.action for one in told))


def here(cache: Path) -> int:
    """Return how many bytes of half-done files are there."""
    return sum(path.stat().st_size for path in cache.rglob("*.incomplete"))


def left_over(cache: Path) -> list[str]:
    """Return half-done files."""
    return sorted(path.name for path in cache.rglob("*.incomplete"))

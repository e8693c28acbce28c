"""The real model of the tests: fetched once, by the code that fetches it for everyone."""

import asyncio
import os
from functools import cache
from pathlib import Path

from rhapsode_contract.names import default_cache
from rhapsode_worker.fetching import fetch_builtin
from rhapsode_worker.models import BUILTINS, find_installed
from support.hub import Hub, Repository


@cache
def smollm() -> Path:
    """Return the path of SmolLM2-135M-Instruct."""
    builtin, folder = BUILTINS["smollm2-135m"], default_cache(os.environ)
    found = find_installed(builtin, folder) or asyncio.run(fetch_builtin(builtin, folder, lambda _done, _total: None))
    return found.path


def small_hub() -> Hub:
    """Return a hub that gives SmolLM2 in the place of the model that the documents fetch."""
    files = {"smollm2-360m-instruct-q8_0.gguf": smollm().read_bytes(), "README.md": b"# SmolLM2"}
    return Hub({"HuggingFaceTB/SmolLM2-360M-Instruct-GGUF": Repository(files)})

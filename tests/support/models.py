"""The real model of the tests: fetched once, by the code that fetches it for everyone."""

import asyncio
import os
from functools import cache
from pathlib import Path

from rhapsode_contract.names import default_cache
from rhapsode_worker.fetching import fetch_builtin
from rhapsode_worker.models import BUILTINS, find_installed


@cache
def smollm() -> Path:
    """Return the path of SmolLM2-135M-Instruct."""
    builtin, folder = BUILTINS["smollm2-135m"], default_cache(os.environ)
    found = find_installed(builtin, folder) or asyncio.run(fetch_builtin(builtin, folder, lambda _done, _total: None))
    return found.path

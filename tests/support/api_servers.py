"""One real API server for the tests of a folder, or the word why there is none. Used by their conftest files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.api_server import ApiServer, NoTools, find_tools


@contextmanager
def serving(folder: Path) -> Iterator[ApiServer]:
    """Run an API server; skips where its programs are not, unless somebody insists."""
    try:
        tools = find_tools()
    except NoTools as exc:
        if os.environ.get("CI") or os.environ.get("RHAPSODE_REQUIRE_KUBERNETES"):
            pytest.fail(f"{exc} CI does not accept skips.")
        pytest.skip(str(exc))
    server = ApiServer(folder, tools)
    try:
        server.start()
        yield server
    finally:
        server.stop()

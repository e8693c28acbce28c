"""One real API server for the tests of a folder, or the word why there is none. Used by their conftest files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.api_server import ApiServer, NoTools, find_tools
from support.pod_reports import path_of


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


@contextmanager
def leaving_no_pods(server: ApiServer) -> Iterator[ApiServer]:
    """Lend an API server, and remove what pods are left: the next kubelet's nodes would have to make room for them."""
    yield server
    server.start()
    for pod in server.admin.items("/api/v1/pods"):
        server.delete(path_of(pod), {"gracePeriodSeconds": 0})

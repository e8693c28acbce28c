"""One real API server for all tests of the chart: releases are about a whole cluster, so each test cleans up."""

import secrets
from collections.abc import Iterator

import pytest

from support.api_server import ApiServer
from support.api_servers import serving
from support.releases import FOREIGN_KINDS, Release, foreign_crd


@pytest.fixture(scope="session")
def chart_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The API server, with bare stand-ins for the Prometheus operator's kinds."""
    with serving(tmp_path_factory.mktemp("kubernetes")) as server:
        for kind in FOREIGN_KINDS:
            path = server.folder / f"{kind}.yaml"
            path.write_text(foreign_crd(kind))
            server.install_crd(path)
        yield server


@pytest.fixture
def release(chart_server: ApiServer) -> Iterator[Release]:
    """The release `rhapsode`, not installed yet, in a namespace of its own."""
    release = Release(chart_server, chart_server.namespace(f"inference-{secrets.token_hex(3)}"))
    yield release
    release.close()

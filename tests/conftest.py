"""Fixtures that several folders of tests use."""

import functools
import gc
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from httpx._transports import default as transports
from hypothesis import HealthCheck, settings

from support.fake_worker import FakeWorker
from support.gated_engine import SPEECH, Gates
from support.processes import DEADLINE_S, Relay, running_relay

settings.register_profile("rhapsode", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rhapsode")
"""How long an example takes says something of the machine only."""

for _wait in ("connect", "read", "write", "pool"):  # httpx gives up after five seconds, which a machine may stall
    setattr(DEFAULT_TIMEOUT_CONFIG, _wait, DEADLINE_S)
transports.create_ssl_context = functools.cache(httpx.create_ssl_context)  # type: ignore[attr-defined]
"""Else each `httpx.get` reads all authorities of the world anew: 30 ms of CPU before its first byte."""


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """What a file leaves open fails there, not whatever test runs when Python next looks for garbage."""
    yield
    gc.collect()


@pytest.fixture
def relay() -> Iterator[Relay]:
    """A relay without a worker."""
    with running_relay() as running:
        yield running


@pytest.fixture
def worker(relay: Relay) -> Iterator[FakeWorker]:
    """A ready worker, played by the test."""
    with FakeWorker(relay.socket) as fake:
        yield fake


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    """What holds loads and texts: each is over in a second or two, and is to be seen in the middle."""
    return Gates(tmp_path)


@pytest.fixture
def speech(gates: Gates, monkeypatch: pytest.MonkeyPatch) -> Gates:
    """Hold what an engine that this test starts says after its first token: it may be over before the test looks."""
    for name, value in gates.environ.items():
        monkeypatch.setenv(name, value)
    gates.hold(SPEECH)
    return gates

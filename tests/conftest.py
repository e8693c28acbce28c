"""Fixtures that several folders of tests use."""

from collections.abc import Iterator

import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG
from hypothesis import HealthCheck, settings

from support.fake_worker import FakeWorker
from support.processes import DEADLINE_S, Relay, running_relay

settings.register_profile("rhapsode", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rhapsode")
"""How long an example takes says something of the machine only."""

for _wait in ("connect", "read", "write", "pool"):  # httpx gives up after five seconds, which a machine may stall
    setattr(DEFAULT_TIMEOUT_CONFIG, _wait, DEADLINE_S)


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

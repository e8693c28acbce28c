"""A relay that the tests of one file share."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.fake_worker import FakeWorker
from support.processes import Relay, running_relay, wait_until


@pytest.fixture(scope="module")
def shared() -> Iterator[Relay]:
    """A relay with a ready worker, for tests that leave nothing behind."""
    with running_relay() as running, FakeWorker(running.socket) as worker, worker.breathing():
        wait_until(lambda: running.get("/v1/worker").json()["phase"] == "ready", "the worker is ready")
        yield running


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for questions whose answers wait for what the test does next."""
    with ThreadPoolExecutor() as threads:
        yield threads

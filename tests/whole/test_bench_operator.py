"""The bench of the operator measures what it says: small scenes on a real API server end without errors."""

import asyncio
import os

import pytest
from bench.operator.creating import burst
from bench.operator.crowding import LOADERS, crowd
from bench.operator.floor import floor
from bench.operator.loading import simulated

from support.api_server import NoTools, find_tools


@pytest.fixture(autouse=True)
def tools() -> None:
    """Skips where Kubernetes' programs are not, unless somebody insists."""
    try:
        find_tools()
    except NoTools as exc:
        if os.environ.get("CI") or os.environ.get("RHAPSODE_REQUIRE_KUBERNETES"):
            pytest.fail(f"{exc} CI does not accept skips.")
        pytest.skip(str(exc))


def test_a_burst_and_a_bare_loop_make_the_same_objects() -> None:
    found, bare = asyncio.run(burst(5)), asyncio.run(floor(5))
    assert found.errors == 0
    assert 0 < found.created <= found.told
    assert found.requests >= 4 * 5, "a pod, two Services and a status each"
    assert bare.done > 0


def test_a_crowd_runs_tells_and_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.operator.crowding.GAP_S", 0.7)
    found = asyncio.run(crowd(3, window_s=0.5, samples=LOADERS, settle_s=0.5))
    assert (found.streams, found.errors) == (3 + LOADERS, 0)
    assert found.idle_mib > 0
    assert 0 < found.phase.p50 <= found.phase.p99
    assert 0 < found.first <= found.all


def test_a_load_of_twenty_minutes_costs_few_writes() -> None:
    written = asyncio.run(simulated(1200))
    assert set(written) == {"rhapsode-operator", "rhapsode-telemetry"}
    assert written.total() <= 25

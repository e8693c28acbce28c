"""What runs while an operator leads, where a process of its own cannot be brought to the moment."""

import asyncio
import os
import types
from typing import Any, cast

import pytest

from rhapsode_operator import running
from rhapsode_operator.electing import Elector
from rhapsode_operator.kube import Kube
from rhapsode_operator.metrics import Metrics
from rhapsode_operator.queueing import Key
from rhapsode_operator.serving import Health
from rhapsode_operator.settings import OperatorSettings
from support import virtual_time

KEY = ("ns", "w")
BODY: dict[str, Any] = {"metadata": {"namespace": "ns", "name": "w", "uid": "u", "resourceVersion": "1"}}


class Half:
    """A deciding half that only looks: whether there is the resource, at the beginning of each run."""

    def __init__(self) -> None:
        self.saw: list[bool] = []
        self.look: Any = None

    def make_worker(self, body: dict[str, Any]) -> Any:
        return body

    def make_pod(self, body: dict[str, Any]) -> Any:
        return body

    def make_reconciler(self, parts: running.Parts) -> Any:
        self.watched = parts.watched
        return self

    async def reconcile(self, key: Key) -> float | None:
        self.saw.append(self.watched.worker(key) is not None)
        await asyncio.sleep(1)
        return None


@pytest.mark.parametrize("after_s", [0.5, 5.0], ids=["in-a-run", "after-it"])
def test_a_resource_that_goes_is_looked_at_once_more_whenever_it_goes(after_s: float) -> None:
    """That look drops what is known of it; then it is forgotten, and has no resync."""
    half = Half()

    async def scene() -> None:
        metrics, settings = Metrics(), OperatorSettings.from_env({})
        leader = running._Leader(settings, half, cast("Kube", types.SimpleNamespace()), Health(metrics), metrics)
        leader._elector = cast("Elector", types.SimpleNamespace(leading=True))
        crew = asyncio.create_task(leader._queue.run(leader._reconcile, 2))
        half.watched.worker_seen(BODY, deleted=False)
        await asyncio.sleep(after_s)
        half.watched.worker_seen(BODY, deleted=True)
        await asyncio.sleep(5000)
        leader._queue.close()
        await crew

    virtual_time.run(scene())
    assert half.saw == [True, False]


async def test_a_leader_that_cannot_keep_its_lease_for_whatever_reason_ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The Lease would run out, and the process idle for ever."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)

    async def keep() -> str:
        raise KeyError("spec")

    await running._die_with(cast("Elector", types.SimpleNamespace(keep=keep)))
    assert ended == [1]
    assert capfd.readouterr().err == "rhapsode-operator: the Lease cannot be kept: KeyError: 'spec'; ending at once\n"

"""What health tells, and what it must not tell."""

import asyncio
from typing import Any

import httpx
import pytest

from rhapsode_contract.names import KIND
from rhapsode_operator.errors import CannotRun
from rhapsode_operator.metrics import Metrics
from rhapsode_operator.queueing import Queue
from rhapsode_operator.serving import Health, serve
from support import virtual_time
from support.processes import free_port

NAMED = (KIND, "ns", "w")


async def answers(url: str) -> dict[str, tuple[int, str]]:
    async with httpx.AsyncClient(base_url=url) as client:
        return {
            path: ((answer := await client.get(path)).status_code, answer.text)
            for path in ("/healthz", "/readyz", "/metrics")
        }


async def test_it_answers_before_anything_else_is_there() -> None:
    metrics, port = Metrics(), free_port()
    async with serve(Health(metrics), metrics, "127.0.0.1", port):
        told = await answers(f"http://127.0.0.1:{port}")
    assert told["/healthz"] == (200, "ok\n")
    assert told["/readyz"] == (503, "starting\n")
    assert "rhapsode_leader 0.0" in told["/metrics"][1]


async def test_no_connection_is_kept_open() -> None:
    metrics, port = Metrics(), free_port()
    async with serve(Health(metrics), metrics, "127.0.0.1", port), httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/healthz")
        assert answer.headers["connection"] == "close"


async def test_a_port_that_is_taken_is_one_line() -> None:
    metrics, port = Metrics(), free_port()
    async with serve(Health(metrics), metrics, "127.0.0.1", port):
        with pytest.raises(CannotRun, match=r"cannot be listened on .* Set RHAPSODE_PORT"):
            async with serve(Health(metrics), metrics, "127.0.0.1", port):
                pass


def test_a_watch_that_owes_a_change_is_dead_and_one_that_delivers_is_not() -> None:
    async def scene() -> None:
        health, loop = Health(Metrics()), asyncio.get_running_loop()
        health.pulse.expect(NAMED, "10", loop.time())
        await asyncio.sleep(119)
        assert health.ills() == []
        await asyncio.sleep(2)
        assert health.ills() == ["the watch is dead: it owes a change for 121 s"]
        health.pulse.told(NAMED, "10")
        assert health.ills() == []

    virtual_time.run(scene())


def test_an_idle_cluster_is_healthy_for_ever() -> None:
    async def scene() -> None:
        health = Health(Metrics())
        health.queue = Queue(Metrics())
        await asyncio.sleep(1_000_000)
        assert health.ills() == []

    virtual_time.run(scene())


def test_a_run_that_never_ends_is_a_stuck_queue() -> None:
    async def scene() -> None:
        health = Health(Metrics())
        health.queue = queue = Queue(Metrics(), run_s=10_000)

        async def hang(key: Any) -> None:
            await asyncio.sleep(9_000)

        crew = asyncio.create_task(queue.run(hang, 2))
        queue.add(("ns", "w"))
        await asyncio.sleep(181)
        assert health.ills() == ["the queue is stuck: a run takes 181 s already"]
        crew.cancel()

    virtual_time.run(scene())


def test_workers_that_are_gone_are_told() -> None:
    async def scene() -> None:
        health = Health(Metrics())
        health.queue, health.workers = Queue(Metrics()), 4
        assert health.ills() == ["0 of 4 workers live"]

    virtual_time.run(scene())


async def test_a_loop_that_was_late_is_told() -> None:
    health = Health(Metrics())
    health.lag = 11
    assert health.ills() == ["the event loop was 11 s late"]

"""Listening to relays: real connections, to a small HTTP server that plays the relays of a pod."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from aiohttp import web

from rhapsode_operator.narrating import outdated
from rhapsode_operator.queueing import Key
from rhapsode_operator.telemetry import Telemetry
from support.processes import DEADLINE_S, free_port
from support.snapshots import opening, pod

KEY = ("ns", "w")
HERE, THERE = "127.0.0.1", "127.0.0.2"


class Relays:
    """Relays on two addresses of this machine: each says how its worker is, and then nothing."""

    def __init__(self) -> None:
        self.port = free_port()
        self.open: list[str] = []
        """The address of each stream that is being read."""
        self.streams = 0
        self.answer = 204
        """The status with which narrations are answered."""

    async def note(self, _: web.Request) -> web.Response:
        return web.Response(status=self.answer)

    async def state(self, _: web.Request) -> web.Response:
        return web.json_response({"seq": 0})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        host = request.host.partition(":")[0]
        self.open.append(host)
        self.streams += 1
        try:
            await response.write(b"data: " + msgspec.json.encode(opening("loading")) + b"\n\n")
            await asyncio.Event().wait()
        finally:
            self.open.remove(host)
        return response


class Ear:
    """Hears that tales went on; the first time it fails, if it is told to."""

    def __init__(self) -> None:
        self.moves: list[bool] = []
        self.fault: Exception | None = None

    def moved(self, key: Key, *, at_once: bool) -> None:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        self.moves.append(at_once)


@pytest.fixture
async def relays() -> AsyncIterator[Relays]:
    playing, app = Relays(), web.Application()
    app.add_routes([web.get("/v1/worker", playing.state), web.get("/v1/worker/stream", playing.stream)])
    app.add_routes([web.post("/v1/narration", playing.note)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    for host in (HERE, THERE):
        await web.TCPSite(runner, host, playing.port).start()
    yield playing
    await runner.cleanup()


@contextlib.asynccontextmanager
async def listening(relays: Relays, ear: Ear) -> AsyncIterator[Telemetry]:
    telemetry = Telemetry(ear, relays.port, asyncio.get_running_loop().time)
    await telemetry.start()
    try:
        yield telemetry
    finally:
        await telemetry.stop()


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


async def test_a_pod_with_a_new_address_is_listened_to_there(relays: Relays) -> None:
    """Its sandbox is made anew when a node restarts: the pod stays, the address does not."""
    async with listening(relays, Ear()) as telemetry:
        telemetry.follow(KEY, [pod(podIP=HERE)])
        await until(lambda: telemetry.connected, "the relay is listened to")
        telemetry.follow(KEY, [pod(podIP=HERE)])
        telemetry.follow(KEY, [pod(podIP=THERE)])
        await until(lambda: relays.open == [THERE], "only the new address is listened to")
        await until(lambda: telemetry.connected, "it has told how its worker is")
        assert relays.streams == 2


async def test_a_listener_that_breaks_says_so_and_listens_again(
    relays: Relays, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()
    ear.fault = KeyError("a fault of ours")
    async with listening(relays, ear) as telemetry:
        with caplog.at_level(logging.ERROR):
            telemetry.follow(KEY, [pod(podIP=HERE)])
            await until(lambda: ear.moves == [True], "that it broke off is worth a look")
        assert telemetry.connected == 0
        assert "Listening to ns/w-0 broke off" in caplog.text
        assert "a fault of ours" in caplog.text
        await until(lambda: telemetry.connected, "the relay is listened to again")


async def test_a_listener_that_is_over_is_started_at_the_next_look(relays: Relays) -> None:
    async with listening(relays, Ear()) as telemetry:
        telemetry.follow(KEY, [pod(podIP=HERE)])
        await until(lambda: telemetry.connected, "the relay is listened to")
        (task,) = [one for one in asyncio.all_tasks() if one.get_name() == "listen to w-0"]
        task.cancel()
        await until(lambda: not relays.open, "nobody listens")
        telemetry.follow(KEY, [pod(podIP=HERE)])
        await until(lambda: relays.streams == 2, "somebody listens again")


@pytest.mark.parametrize(("status", "heard"), [(204, True), (400, True), (429, False), (503, False)])
async def test_what_a_relay_refuses_for_good_is_not_told_again(relays: Relays, status: int, heard: bool) -> None:
    relays.answer = status
    async with listening(relays, Ear()) as telemetry:
        assert await telemetry.narrate(pod(podIP=HERE), outdated(pod())) is heard


async def test_a_relay_that_is_away_has_not_heard(relays: Relays) -> None:
    async with listening(relays, Ear()) as telemetry:
        assert not await telemetry.narrate(pod(podIP="127.0.0.3"), outdated(pod()))

"""The relay process: `python -m rhapsode_relay`. Wires everything together, and ends it in order."""

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvloop
from prometheus_client import CollectorRegistry

from rhapsode_contract import names
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.lifelines import listen_for_stop, run_to_its_end
from rhapsode_contract.manifests import load_given_manifest
from rhapsode_contract.names import is_loopback
from rhapsode_contract.records import log_to_stdout
from rhapsode_relay.admin import create_admin
from rhapsode_relay.app import create_app
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.draining import drain
from rhapsode_relay.finding import JobFinder
from rhapsode_relay.hearing import Hearing
from rhapsode_relay.hosting import Server, bind, make_server
from rhapsode_relay.keys import KeyFolder
from rhapsode_relay.listening import Room, listen
from rhapsode_relay.metrics import RelayCollector
from rhapsode_relay.neighbours import meet_neighbours
from rhapsode_relay.reading import Readers
from rhapsode_relay.settings import RelaySettings
from rhapsode_relay.tickets import renew_in
from rhapsode_relay.timing_out import Timekeeper

if TYPE_CHECKING:
    from rhapsode_relay.turns.contracts import Contract
    from rhapsode_relay.turns.routes import RoutedTurns

TICK_S = 0.1
"""How often time is looked at: each job once in ten ticks, readers once in three."""


def main() -> int:
    """Run a relay until it is told to stop; return the process's exit status."""
    try:
        settings = RelaySettings.load(load_given_manifest(os.environ), os.environ)
        contracts = _read_contracts(settings)
    except ValueError as exc:
        return _complain(str(exc))
    _raise_file_limit()
    logger = log_to_stdout("relay", settings.worker_id)
    try:
        run_to_its_end(_run(settings, contracts, logger), uvloop.run)
    except OSError as exc:
        return _complain(str(exc))
    return 0


def _read_contracts(settings: RelaySettings) -> dict[str, "Contract"]:
    """Return the contracts of turns. What compiles them is imported where there are some. Raises ValueError."""
    if not settings.outcomes:
        return {}
    from rhapsode_relay.turns.contracts import check_contracts, compile_contracts

    if problems := check_contracts(settings.outcomes):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ValueError(problems[0] + more)
    return compile_contracts(settings.outcomes)


async def _run(settings: RelaySettings, contracts: dict[str, "Contract"], logger: logging.Logger) -> None:
    house = Conductor(settings, _new_epoch(), logger)
    readers = Readers(settings.heartbeat_s, settings.stall_s, settings.max_readers)
    readers.on_left = house.readers_left
    house.on_job = readers.introduce
    house.on_look = Timekeeper(house, settings.patience).look
    hearing = Hearing(house)
    room = Room(hearing, readers)
    registry = CollectorRegistry()
    registry.register(RelayCollector(house, readers, room))
    loop = asyncio.get_running_loop()
    client_socket, admin_socket = bind(settings.host, settings.port), bind(settings.host, settings.admin_port)
    heir = settings.socket.is_socket()  # of a relay that was killed: one that ends removes it
    listener = await listen(settings.socket, room)
    keys = KeyFolder(settings.keys) if settings.keys is not None else None
    neighbours = meet_neighbours(settings, house, logger, _renewing(keys))
    turns = _make_turns(settings, house, contracts)
    finder = JobFinder(house, hearing, loop.time(), heir=heir)
    app = create_app(house, readers, finder, keys, neighbours, turns)
    client = make_server(app, settings.max_connections, house.counts.refuse)
    admin = make_server(create_admin(house, room, registry), settings.max_connections)
    house.log(house.worker.say("relay_start", port=client_socket.getsockname()[1], worker=settings.worker_id))
    if keys is None and not is_loopback(settings.host):
        house.log(narrate("relay_open", {"host": settings.host, "port": client_socket.getsockname()[1]}))
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # tokens make no cycles; looking for them costs a tenth of the throughput
    stopping, hurry = listen_for_stop(loop, os.environ)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(client.serve([client_socket]))
        tasks.create_task(admin.serve([admin_socket]))
        ticker = tasks.create_task(_tick(house, readers, room))
        await stopping.wait()
        await drain(house, readers, hurry, neighbours.handed_over if neighbours is not None else lambda: 0)
        ticker.cancel()
        if turns is not None:
            await turns.close()
        if neighbours is not None:
            await neighbours.close()
        settings.socket.unlink(missing_ok=True)  # now: once we listen no more, it may be our successor's
        _close(listener, room, client, admin)


def _renewing(keys: KeyFolder | None) -> Callable[[bytes], bytes]:
    """Return what makes the ticket of a query a good one again, where there are tickets."""
    return lambda query: query if keys is None else renew_in(query, keys, time.time())


def _make_turns(settings: RelaySettings, house: Conductor, contracts: dict[str, "Contract"]) -> "RoutedTurns | None":
    if not contracts:
        return None
    from rhapsode_relay.turns.routes import RoutedTurns

    return RoutedTurns(house, contracts, settings.turn_limit, settings.secrets)


async def _tick(house: Conductor, readers: Readers, room: Room) -> None:
    for tick in itertools.count():
        await asyncio.sleep(TICK_S)
        now = time.monotonic()
        house.tick(now)
        if tick % 3 == 0:
            readers.sweep(now)
            room.take_pulse(now)


def _close(listener: asyncio.AbstractServer, room: Room, *servers: Server) -> None:
    listener.close()
    for connection in list(room.connections):
        connection.close()
    for server in servers:
        server.stop()


def _new_epoch() -> str:
    """Return a word that no earlier relay of this worker had: the milliseconds of now, in base 36."""
    number, digits = time.time_ns() // 1_000_000, ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def _raise_file_limit() -> None:
    """A reader is a file; the usual soft limit of 1024 is a laptop's."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _complain(message: str) -> int:
    sys.stderr.write(f"rhapsode-relay: {message}\n")
    return names.EXIT_CANNOT_WORK


if __name__ == "__main__":
    sys.exit(main())

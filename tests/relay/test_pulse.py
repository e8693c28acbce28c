"""Whether a worker that says nothing is lost: a connection without a socket, and a clock of the test's."""

import asyncio
import logging
from typing import Any

from rhapsode_contract import frames
from rhapsode_contract.validating import decode_manifest
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.hearing import Hearing
from rhapsode_relay.listening import LOST_AFTER_S, PING_EVERY_S, Connection, Room
from rhapsode_relay.reading import Readers
from rhapsode_relay.settings import RelaySettings
from support.processes import manifest


class Line(asyncio.Transport):
    """What a relay writes to its worker."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def joined() -> tuple[Room, Connection, Line]:
    """Return a room with a worker in it that has said hello."""
    settings = RelaySettings.load(decode_manifest(manifest()), {})
    room, line = Room(Hearing(Conductor(settings, "epoch", logging.getLogger("tests"))), Readers(1, 1, 1)), Line()
    connection = Connection(room)
    connection.connection_made(line)
    connection.data_received(frames.encode_frame(frames.Hello(proto=1, boot_id="b", engine="Fake", model="sim")))
    assert connection.is_worker
    line.written.clear()
    return room, connection, line


def look(room: Room, seconds: float) -> None:
    """Let time pass, with a look each second."""
    for _ in range(round(seconds)):
        room.take_pulse(room.now + 1)


def test_a_silent_worker_is_asked_for_a_sign_and_lost_without_one() -> None:
    room, _, line = joined()
    look(room, PING_EVERY_S + 2)
    assert line.written == [frames.encode_frame(frames.Ping())]
    look(room, LOST_AFTER_S - PING_EVERY_S)
    assert line.aborted


def test_a_worker_that_gives_signs_stays() -> None:
    room, connection, line = joined()
    for _ in range(10):
        look(room, LOST_AFTER_S - 2)
        connection.data_received(frames.encode_frame(frames.Stats()))
    assert not line.aborted


def test_a_relay_that_stood_still_itself_loses_no_worker() -> None:
    room, _, line = joined()
    room.take_pulse(room.now + 3 * LOST_AFTER_S)
    assert not line.aborted, "what it said meanwhile is yet to be read"
    look(room, LOST_AFTER_S + 2)
    assert line.aborted, "but now it is its own silence"

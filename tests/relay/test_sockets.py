"""What only WebSockets have: a handshake, a client that may speak, close codes. Most of it is what hostile ones do."""

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from rhapsode_contract import frames
from rhapsode_relay.framing import Framer
from rhapsode_relay.upgrading import LINGER_S, MAX_WORDS, Socket
from support.fake_worker import FakeWorker
from support.processes import DEADLINE_S, Relay, wait_until
from support.requests import assert_error, post
from support.sockets import WebSocket, follow
from support.streams import Stream, ask, text_of
from support.virtual_time import run

MASK = b"\x00\x00\x00\x00"
GIANT = b"\x81\xff" + struct.pack(">Q", 2**62) + MASK


@pytest.fixture
def running(relay: Relay, worker: FakeWorker) -> Iterator[tuple[Relay, FakeWorker, frames.Generate]]:
    """A job that has said "ab"."""
    with ask(relay.port) as stream:
        job = worker.begin()
        worker.speak(job, "a", "b")
        stream.next("token"), stream.next("token")
        yield relay, worker, job


Running = tuple[Relay, FakeWorker, frames.Generate]

# The handshake


def test_a_request_that_is_no_handshake_is_told_what_is_missing(running: Running) -> None:
    relay, _, job = running
    path = f"/v1/inference/{job.job_id}/ws"
    plain = relay.get(path)
    assert_error(plain, 426, "upgrade_required")
    assert (plain.headers["upgrade"], plain.headers["sec-websocket-version"]) == ("websocket", "13")
    for wrong in ({"Sec-WebSocket-Version": "8"}, {"Upgrade": "h2c"}, {"Connection": "close"}):
        with WebSocket(relay.port, path, headers=wrong) as stream:
            assert (stream.status, stream.json()["error"]["code"]) == (426, "upgrade_required")
    assert relay.client.post(path).status_code == 405
    with Stream(relay.port, "/healthz", headers={"Upgrade": "websocket", "Connection": "Upgrade"}) as elsewhere:
        assert elsewhere.status == 404, "other paths answer as ever"


def test_a_handshake_that_comes_behind_other_requests_waits_its_turn(running: Running) -> None:
    relay, worker, job = running
    head = f"GET /v1/inference/{job.job_id}/ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    stream = f"GET /v1/inference/{job.job_id}/stream HTTP/1.1\r\nHost: t\r\n\r\n"
    with socket.create_connection(("127.0.0.1", relay.port), DEADLINE_S) as connection:
        connection.sendall((stream + head).encode())
        worker.finish(job, 2)
        said = b""
        while b"\x03\xe8done" not in said:
            data = connection.recv(65536)
            assert data, said
            said += data
    sse, _, messages = said.partition(b"HTTP/1.1 101 ")
    assert sse.endswith(b"\r\n0\r\n\r\n")
    assert messages.count(b'"event":"token"') == 2


async def test_a_client_of_a_library_understands_all_of_it(running: Running) -> None:
    relay, worker, job = running
    url = f"{relay.url}/v1/inference/{job.job_id}/ws"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, heartbeat=30, compress=15) as client:
        worker.speak(job, "c" * 40_000, "d" * 40_000, start=2)
        worker.finish(job, 4)
        events = [json.loads(message.data) async for message in client]
        assert client.close_code == 1000
    assert [event["event"] for event in events][-2:] == ["end", "done"]
    assert "".join(event["data"]["t"] for event in events if event["event"] == "token") == (
        text := "ab" + "c" * 40_000 + "d" * 40_000
    )
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}?last_event_id=x") as client:
        snapshot = json.loads((await client.receive(DEADLINE_S)).data)
    assert (snapshot["event"], snapshot["data"]["text"]) == ("snapshot", text)


# What a client may say


def test_the_first_message_says_where_to_go_on(running: Running) -> None:
    """It may come at any time: what the client has already is told apart by its id, until `replay` comes."""
    relay, worker, job = running
    with follow(relay.port, job.job_id) as stream:
        seen = [stream.next("token"), stream.next("token")]
    with follow(relay.port, job.job_id, say=json.dumps({"last_event_id": seen[0].id})) as again:
        opening = again.next("replay")
        assert opening.data["from"] == seen[0].data["seq"] + 1
        worker.speak(job, "c", start=2)
        worker.finish(job, 3)
        assert text_of(again.rest()) == "bc"
        assert again.code == 1000


def test_a_first_message_that_cannot_be_honoured_gets_a_snapshot(running: Running) -> None:
    relay, _, job = running
    with follow(relay.port, job.job_id, say='{"last_event_id": "another-1-1"}') as stranger:
        assert stranger.next("snapshot").data["text"] == "ab"


def test_a_first_message_that_comes_late_for_a_job_that_is_over_does_no_harm(running: Running) -> None:
    """All of it was on its way already: whoever drops what it has, by id, has all of it once."""
    relay, worker, job = running
    worker.finish(job, 2)
    with follow(relay.port, job.job_id) as stream:
        events = stream.rest()
    with follow(relay.port, job.job_id, say=json.dumps({"last_event_id": events[2].id})) as again:
        got = {event.id for event in again.rest()}
    assert {event.id for event in events[3:]} <= got
    assert again.code == 1000


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (TextMessage(data="hello"), 1008),
        (TextMessage(data='{"last_event_id": 7}'), 1008),
        (TextMessage(data='{"last_event_id": "x", "more": 1}'), 1008),
        (TextMessage(data="[" * 1000), 1008),
        (BytesMessage(data=b"\x00\xff"), 1008),
        (TextMessage(data="x" * (MAX_WORDS + 1)), 1009),
        (b"\x81\x05hello", 1002),
        (b"\xf1\x80" + MASK, 1002),
        (b"\x81\x82" + MASK + b"\xff\xff", 1007),
        (GIANT + b"x" * (MAX_WORDS + 1), 1009),
        ((b"\x01\x80" + MASK) + (b"\x00\x80" + MASK) * 2000, 1009),
        (b"\x8a\x80" + MASK + b"\x88\x82" + MASK + b"\x0f\xa1", 4001),
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
    ],
)
def test_anything_else_ends_it_and_harms_nobody(running: Running, said: Any, code: int) -> None:
    relay, worker, job = running
    with follow(relay.port, job.job_id) as other, follow(relay.port, job.job_id) as stream:
        stream.next("token")
        stream.sock.sendall(said) if isinstance(said, bytes) else stream.send(said)
        stream.rest()
        assert stream.code == code, stream.reason
        worker.finish(job, 2)
        assert other.rest()[-1].name == "done"
    assert not relay.errors


def test_one_message_is_all(running: Running) -> None:
    relay, _, job = running
    with follow(relay.port, job.job_id, say='{"last_event_id": "x"}') as stream:
        stream.next("snapshot")
        stream.say('{"last_event_id": "y"}')
        stream.rest()
        assert (stream.code, stream.reason) == (1008, "nothing more can be said here")


def test_who_leaves_in_order_is_answered_and_has_left(relay: Relay, worker: FakeWorker) -> None:
    job_id = post(relay, {"prompt": "a", "on_disconnect": "cancel"}).json()["job_id"]
    worker.begin()
    with follow(relay.port, job_id) as stream:
        stream.next("started")
        stream.send(Ping(payload=b"there?"))
        wait_until(lambda: stream.pongs or not stream.read_some(), "a ping is answered")
        stream.send(CloseConnection(code=4001, reason="bye"))
        stream.rest()
        assert stream.code == 4001
    assert worker.receive(frames.Cancel).job_id == job_id


def test_pings_of_one_that_reads_nothing_are_not_heaped(running: Running) -> None:
    relay, worker, job = running
    stream = follow(relay.port, job.job_id, receive_buffer=4096)
    ping = b"\x89\xfd" + MASK + b"x" * 125
    stream.sock.settimeout(1)
    for _ in range(200):
        try:
            stream.sock.sendall(ping * 1000)
        except TimeoutError:
            break
    with follow(relay.port, job.job_id) as other:
        worker.finish(job, 2)
        assert text_of(other.rest()) == "ab", "the relay goes on"
    stream.close()


# Parts


class Wire:
    """A connection that keeps what is sent; its client has three hundred bytes to take, so many a second."""

    full = False

    def __init__(self, per_second: float = 0) -> None:
        self.sent = b""
        self.aborted = False
        self._per_second = per_second
        self._began = asyncio.get_running_loop().time()

    @property
    def unsent(self) -> int:
        return max(0, 300 - int(self._per_second * (asyncio.get_running_loop().time() - self._began)))

    def send(self, data: bytes) -> None:
        self.sent += data

    def upgrade(self, hear: Any) -> None:
        self.hear = hear

    def abort(self) -> None:
        self.aborted = True


def stalled(wire: Wire) -> Socket:
    """Return one that takes too little, as it is sent away."""
    handshake = WSConnection(ConnectionType.SERVER)
    headers = [(b"host", b"t"), (b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    headers += [(b"sec-websocket-version", b"13"), (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")]
    handshake.initiate_upgrade_connection(headers, "/")
    stream = Socket(wire, handshake)  # type: ignore[arg-type]
    stream.accept({})
    stream.stall()
    return stream


def test_one_that_takes_nothing_is_told_why_and_then_cut_off() -> None:
    async def stall() -> Wire:
        stream = stalled(wire := Wire())
        stream.write(b"id: a-b-1\nevent: token\ndata: {}\n\n")
        stream.stall()
        assert stream.full
        await asyncio.sleep(LINGER_S / 2)
        assert not wire.aborted
        await asyncio.sleep(LINGER_S)
        return wire

    wire = run(stall())
    assert wire.aborted
    assert wire.sent.partition(b"\r\n\r\n")[2][2:].startswith(b"\x03\xf5you read too slowly"), (
        "1013, once, and the last"
    )
    assert b"a-b-1" not in wire.sent


def test_one_that_takes_what_is_left_slowly_has_time_for_all_of_it() -> None:
    async def take() -> tuple[bool, bool]:
        stalled(wire := Wire(per_second=75))
        await asyncio.sleep(4 + LINGER_S * 0.9)
        waited_for = not wire.aborted
        await asyncio.sleep(LINGER_S)
        return waited_for, wire.aborted

    assert run(take()) == (True, True)


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_messages_are_the_same_however_the_stream_is_cut(size: int) -> None:
    events = [b'id: j-e-%d\nevent: token\ndata: {"t":"%b"}\n\n' % (at, b"x" * 50 * at) for at in range(1, 2000, 400)]
    stream = b"retry: 2000\n" + events[0] + b": hb\n: hb\n" + b"".join(events[1:]) + b": hb\n"
    framer = Framer()
    out = b"".join(framer.frames(stream[at : at + size]) for at in range(0, len(stream), size))
    assert out.replace(b"\x89\x00", b"") == b"".join(Framer().frames(event) for event in events)
    assert out.endswith(b"\x89\x00")
    assert framer.last == b"token"

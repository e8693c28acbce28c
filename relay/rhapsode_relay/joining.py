"""Join what other replicas tell of a correlation id into the stream of one reader. Called by `app`.

Each replica is asked for its own part of the stream. What comes is cut into whole events and put into an `Inlet`,
which the reader reads as it reads a journal: so no event of one replica ever stands inside one of another, and
nothing is fetched that the client does not take. Replicas that come, or come back, are found at the next look.
"""

import asyncio
import re
from dataclasses import replace

from rhapsode_relay.calling import Answer, Broken, Call, Caller, Unreachable
from rhapsode_relay.counting import Counts
from rhapsode_relay.journal import EVERYTHING, READ_BYTES, Cursor, Listener
from rhapsode_relay.peers import MAX_PEERS, Address, Peers
from rhapsode_relay.reading import Reader

LOOK_EVERY_S = 2.0
"""How soon a replica is heard that is new, or back."""
MAX_EVENT_BYTES = 32 * 1024 * 1024
"""Longest event of another replica: a snapshot of the longest text."""
_REMEMBERED = 4 * MAX_PEERS
"""Addresses of which a reader knows where it was."""
_NOISE = re.compile(rb"^(?::[^\n]*|retry:[^\n]*)\n", re.MULTILINE)
"""Heartbeats and what browsers are told at the start of a stream: each reader gets ours."""
_LEADING_NOISE = re.compile(rb"(?:(?::[^\n]*|retry:[^\n]*)\n)+")


class EventCutter:
    """Cuts a stream into whole events."""

    def __init__(self) -> None:
        self.last_id = b""
        """Id of the last whole event."""
        self._rest = bytearray()

    def cut(self, data: bytes) -> bytes:
        """Return the events that are complete now. Raises Broken for one that is too long."""
        rest = self._rest
        seen = max(0, len(rest) - 1)
        rest += data
        end = rest.rfind(b"\n\n", seen) + 2
        whole = b""
        if end > 1:
            whole = _NOISE.sub(b"", bytes(rest[:end]))
            del rest[:end]
            self._remember(whole)
        if noise := _LEADING_NOISE.match(rest):
            del rest[: noise.end()]
        if len(rest) > MAX_EVENT_BYTES:
            raise Broken(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return whole

    def _remember(self, whole: bytes) -> None:
        last = whole[whole.rfind(b"\n\n", 0, -2) + 1 :].lstrip(b"\n")
        if last.startswith(b"id: "):
            self.last_id = last[4 : last.index(b"\n")]


class Inlet:
    """What comes from elsewhere, as a feed of a reader. Bounded: who brings more waits until it was read."""

    def __init__(self) -> None:
        self.closed = False
        self.listeners: set[Listener] = set()
        self._waiting: list[bytes] = []
        self._size = 0
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, events: bytes) -> None:
        await self._room.wait()
        self._waiting.append(events)
        self._size += len(events)
        if self._size >= READ_BYTES:
            self._room.clear()
        for listener in self.listeners:
            listener.ring()

    def read(self, cursor: Cursor, mask: int = EVERYTHING) -> bytes:  # noqa: ARG002 (the replicas filter)
        """Return all that is here."""
        if not self._waiting:
            return b""
        events = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._room.set()
        return events


class Choir:
    """Brings the parts of all other replicas to the readers of correlation ids."""

    def __init__(self, peers: Peers, caller: Caller, counts: Counts) -> None:
        self._peers = peers
        self._caller = caller
        self._counts = counts

    def join(self, reader: Reader, call: Call) -> None:
        """Let a reader hear all others, until it leaves."""
        inlet = Inlet()
        reader.follow(inlet, Cursor(0, 0))
        singing = asyncio.create_task(self._conduct(inlet, call))
        reader.at_end = singing.cancel  # type: ignore[assignment]

    async def _conduct(self, inlet: Inlet, call: Call) -> None:
        """Keep one voice for each replica that is there."""
        singing: dict[Address, asyncio.Task[None]] = {}
        last_ids: dict[Address, bytes] = {}
        async with asyncio.TaskGroup() as voices:
            while True:
                singing = {address: voice for address, voice in singing.items() if not voice.done()}
                for address in await self._peers.others():
                    if address not in singing:
                        voice = self._listen(address, inlet, call, last_ids)
                        singing[address] = voices.create_task(voice)
                while len(last_ids) > _REMEMBERED:
                    del last_ids[next(iter(last_ids))]
                await asyncio.sleep(LOOK_EVERY_S)

    async def _listen(self, address: Address, inlet: Inlet, call: Call, last_ids: dict[Address, bytes]) -> None:
        """Hear one replica until it ends. When it is heard again, it goes on where it was."""
        if last_id := last_ids.get(address):
            kept = [(name, value) for name, value in call.headers if name.lower() != b"last-event-id"]
            call = replace(call, headers=[*kept, (b"last-event-id", last_id)])
        try:
            answer = await self._caller.open(address, call)
        except Unreachable:
            self._counts.forward("correlation", "unreachable")
            return
        cutter = EventCutter()
        try:
            self._counts.forward("correlation", await self._sing(address, answer, inlet, cutter))
        finally:
            answer.close()
            if cutter.last_id:
                last_ids[address] = cutter.last_id

    async def _sing(self, address: Address, answer: Answer, inlet: Inlet, cutter: EventCutter) -> str:
        if answer.status == 421:
            self._peers.exclude(address)
            return "refused"
        if answer.status != 200:
            return "refused"
        try:
            async for chunk in answer.chunks():
                if events := cutter.cut(chunk):
                    await inlet.put(events)
        except Broken:
            return "broken"
        return "passed"

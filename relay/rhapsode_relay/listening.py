"""The worker socket: who connects, and what their lines mean. Called by `__main__`.

Every connection begins as a narrator's. The one that says `hello`, while no other has, becomes the worker's:
only its frames can touch a job or the worker's state, but for how far the model's loading is: as long as no worker
is here, who fetches the model may tell that. A line that cannot be read is skipped, counted and
narrated (once a connection); the next good line is heard.
"""

import asyncio
import math
import stat
import time
from pathlib import Path
from typing import cast

import msgspec

from rhapsode_contract import frames, names
from rhapsode_relay.hearing import Hearing
from rhapsode_relay.reading import Readers
from rhapsode_relay.terms import Budget

NOTES_PER_S = 20.0
"""Narrations a second that one connection may make, when it is not the worker's."""
PING_EVERY_S = 5.0
LOST_AFTER_S = 20.0
"""Silence after which a worker is asked for a sign of life, and after which it is lost."""
MAX_CONNECTIONS = 64
"""Connections to the worker socket at once."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_worker_lines = msgspec.json.Decoder(frames.WorkerFrame)
_notes = msgspec.json.Decoder(frames.Note)


class _Kind(msgspec.Struct):
    type: str = "narration"


_kinds = msgspec.json.Decoder(_Kind)


class SocketInUse(OSError):
    """Another relay listens on this socket."""


class Room:
    """The open connections of one worker socket, and what they have in common."""

    def __init__(self, hearing: Hearing, readers: Readers) -> None:
        self.hearing = hearing
        self.readers = readers
        self.connections: set[Connection] = set()
        self.now = time.monotonic()
        """The time as of the last look at pulses: near enough, and free."""
        self.bad_lines = 0
        self.notes_dropped = 0
        self._complained_at = -math.inf

    def take_pulse(self, now: float) -> None:
        """Ask a worker that has been silent for a sign of life; let go of one that gives none.

        A frozen supervisor keeps its connection open, and every reader would wait for ever. Where we stood still
        ourselves, what was sent meanwhile is yet to be read: that silence is not the worker's.
        """
        stood_still = now - self.now > PING_EVERY_S
        self.now = now
        for connection in list(self.connections):
            if connection.is_worker:
                connection.take_pulse(now, anew=stood_still)

    def may_complain(self) -> bool:
        """Return whether another bad line may be narrated: one a second, whoever sends them."""
        now = time.monotonic()
        if now - self._complained_at < 1:
            return False
        self._complained_at = now
        return True


class Connection(asyncio.Protocol):
    """One connection to the worker socket."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._skipping = False
        self.is_worker = False
        self._heard_at = time.monotonic()
        self._pinged_at = 0.0
        self._complained = False
        self._refused = False
        self._notes = Budget(NOTES_PER_S, time.monotonic())

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._room.connections.add(self)
        if len(self._room.connections) > MAX_CONNECTIONS:
            self._refuse(f"{MAX_CONNECTIONS} connections are open")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._room.connections.discard(self)
        if self._rest:
            self._hear_each([self._rest])  # a narrator may leave without a newline
        if self.is_worker:
            self.is_worker = False
            self._room.hearing.lose()

    def take_pulse(self, now: float, *, anew: bool = False) -> None:
        """See `Room.take_pulse`; `anew`: its silence begins now."""
        if anew:
            self._heard_at = now
        silent_s = now - self._heard_at
        if silent_s > LOST_AFTER_S and self._transport is not None:
            self._transport.abort()
        elif silent_s > PING_EVERY_S and now - self._pinged_at > PING_EVERY_S:
            self._pinged_at = now
            self.send(frames.Ping())

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._room.now
        if self._skipping:
            newline = data.find(b"\n")
            if newline < 0:
                return
            data, self._skipping = data[newline + 1 :], False
        if self._rest:
            data = self._rest + data
        cut = data.rfind(b"\n") + 1
        self._rest = data[cut:]
        if len(self._rest) > names.MAX_FRAME_BYTES:
            self._count_bad(f"longer than {names.MAX_FRAME_BYTES} bytes")
            self._rest, self._skipping = b"", True
        if cut:
            self._hear(data[:cut])

    def close(self) -> None:
        """End this connection."""
        if self._transport is not None:
            self._transport.close()

    # Lines

    def _hear(self, block: bytes) -> None:
        """Hear whole lines. The worker's are decoded together, and one by one only when one of them is bad."""
        if self.is_worker and not _has_long_line(block):
            try:
                heard = _worker_lines.decode_lines(block)
            except _UNREADABLE:
                self._hear_each(block.split(b"\n"))
                return
            take, readers = self._room.hearing.take, self._room.readers
            readers.collecting = not readers.rung
            for frame in heard:
                take(frame)
            if readers.collecting:
                readers.flush()
        else:
            self._hear_each(block.split(b"\n"))

    def _hear_each(self, lines: list[bytes]) -> None:
        for line in lines:
            if self._refused:
                return
            if not line.strip():
                continue
            if len(line) > names.MAX_FRAME_BYTES:
                self._count_bad(f"longer than {names.MAX_FRAME_BYTES} bytes")
                continue
            try:
                self._hear_line(line)
            except _UNREADABLE as exc:
                self._count_bad(str(exc))

    def _hear_line(self, line: bytes) -> None:
        if self.is_worker:
            self._room.hearing.take(_worker_lines.decode(line))
            return
        match _kinds.decode(line).type:
            case "hello":
                self._meet(cast("frames.Hello", _worker_lines.decode(line)))
            case "narration" | "data":
                self._hear_note(_notes.decode(line))
            case "load":
                self._hear_load(cast("frames.Load", _worker_lines.decode(line)))
            case kind:
                self._count_bad(f"{clip(kind)!r} before hello; without one you may only narrate")

    def _meet(self, hello: frames.Hello) -> None:
        if why := self._room.hearing.refuse(hello):
            self._room.hearing.report_refusal(why)
            self._refuse(why)
            return
        self.is_worker = True
        self._room.hearing.join(hello, self)

    def _hear_note(self, note: frames.Note) -> None:
        if self._notes.take(time.monotonic()):
            self._room.hearing.note(note)
        else:
            self._room.notes_dropped += 1

    def _hear_load(self, load: frames.Load) -> None:
        """Hear how far whoever prepares the model is: before the worker, nobody else can tell."""
        if not self._notes.take(time.monotonic()):
            self._room.notes_dropped += 1
        elif not self._room.hearing.prepare(load):
            self._count_bad("'load' from another than the worker")

    def _count_bad(self, why: str) -> None:
        self._room.bad_lines += 1
        if not self._complained and self._room.may_complain():
            self._complained = True
            self._room.hearing.report_bad_line(why)

    # Answers

    def send(self, frame: frames.RelayFrame) -> None:
        """Send a frame to whoever is connected."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frames.encode_frame(frame))

    def _refuse(self, why: str) -> None:
        self._refused = True
        self.send(frames.Refused(reason=why))
        self.close()


def _has_long_line(block: bytes) -> bool:
    limit = names.MAX_FRAME_BYTES
    return len(block) > limit and max(map(len, block.split(b"\n"))) > limit


def clip(text: str) -> str:
    """Return at most 40 characters of a stranger's word."""
    return text if len(text) <= 40 else text[:39] + "…"


async def listen(path: Path, room: Room) -> asyncio.AbstractServer:
    """Listen on the worker socket, mode 0660. Raises SocketInUse, or OSError where the path cannot be used."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    await _clear_stale(path)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: Connection(room), str(path))
    path.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP)
    return server


async def _clear_stale(path: Path) -> None:
    """Remove the socket of a relay that was killed; leave one alone that answers."""
    if not path.is_socket():
        return
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        path.unlink(missing_ok=True)
        return
    writer.close()
    raise SocketInUse(f"another relay listens on {path}")

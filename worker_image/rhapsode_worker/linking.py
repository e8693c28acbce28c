"""The connection to the relay: made again whenever it breaks. Called by `supervising`.

While there is no relay, frames are not queued: the ledger has all that matters, and whoever connects next is
told from there.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from rhapsode_contract import frames, names
from rhapsode_worker.outbox import Outbox

FIRST_RETRY_S = 0.02
LAST_RETRY_S = 0.5
REFUSED_RETRY_S = 5.0

_commands = msgspec.json.Decoder(frames.RelayFrame)


class RelayLink(asyncio.Protocol):
    """Speaks to one relay at a time."""

    def __init__(
        self,
        path: Path,
        introduce: Callable[[], list[frames.WorkerFrame]],
        obey: Callable[[frames.RelayFrame], None],
    ) -> None:
        self._path = path
        self._introduce = introduce
        self._obey = obey
        self._transport: asyncio.Transport | None = None
        self._outbox: Outbox | None = None
        self._rest = b""
        self._closed = asyncio.Event()
        self._leaving = False
        self.lost_at: float | None = time.monotonic()
        """Since when there is no relay; None while there is one."""
        self.refused = ""

    @property
    def connected(self) -> bool:
        return self._outbox is not None

    def send(self, frame: frames.WorkerFrame) -> None:
        """Send a frame, if there is a relay."""
        if self._outbox is not None:
            self._outbox.put(frame)

    async def keep(self) -> None:
        """Connect, and connect again, until we leave, or are cancelled."""
        loop = asyncio.get_running_loop()
        retry_s = FIRST_RETRY_S
        while not self._leaving:
            self._closed.clear()
            try:
                await loop.create_unix_connection(lambda: self, str(self._path))
            except OSError:
                await asyncio.sleep(retry_s)
                retry_s = min(LAST_RETRY_S, retry_s * 1.5)
                continue
            await self._closed.wait()
            retry_s = REFUSED_RETRY_S if self.refused else FIRST_RETRY_S
            await asyncio.sleep(retry_s)

    async def leave(self, seconds: float) -> None:
        """Let the relay hear everything and hang up, for so many seconds at most.

        It hangs up first: what it says to one who is gone would break the connection, with all that it has not read.
        """
        self._leaving = True
        deadline = time.monotonic() + seconds
        await asyncio.sleep(0)
        while self._transport and self._transport.get_write_buffer_size() and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        if self._transport and self._outbox:
            self._outbox.pause()
            self._outbox = None
            self._transport.write_eof()
        while self._transport and time.monotonic() < deadline:
            await asyncio.sleep(0.005)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._rest, self.refused = b"", ""
        self._outbox = Outbox(self._transport.write, asyncio.get_running_loop().call_soon)
        for frame in self._introduce():
            self._outbox.put(frame)
        self.lost_at = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = self._outbox = None
        self.lost_at = time.monotonic()
        self._closed.set()

    def pause_writing(self) -> None:
        if self._outbox is not None:
            self._outbox.pause()

    def resume_writing(self) -> None:
        if self._outbox is not None:
            self._outbox.resume()

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > names.MAX_COMMAND_BYTES and self._transport is not None:
            self._transport.abort()
        for line in lines:
            try:
                command = _commands.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # a newer relay may say what we do not know
            if isinstance(command, frames.Refused):
                self.refused = command.reason
            self._obey(command)

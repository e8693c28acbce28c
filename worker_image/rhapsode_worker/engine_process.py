"""One engine process, from its start to its end. Called by `supervising`."""

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from rhapsode_contract import frames, names
from rhapsode_worker.counting_kills import oom_kills
from rhapsode_worker.engines import CLOSE_S, LoadPlan
from rhapsode_worker.guarding import Guard
from rhapsode_worker.output_lines import LastLines, Line, LineCutter

KEPT_LINES = 50
"""Lines of the engine's output that are kept to explain its end."""
CLOSE_HURRIED_S = 3.0
"""How long an engine may take to close when nobody wants to wait."""
_LAST_WORDS_S = 1.0
"""How long the output of an engine that is gone may stay open: a process of its own may hold it."""
_LOOK_S = 0.01
_READ_BYTES = 256 * 1024
_frames = msgspec.json.Decoder(frames.WorkerFrame)


class Ending(NamedTuple):
    """How an engine process ended: in words, by its status, its last lines, and whether memory was the cause."""

    how: str
    status: int
    lines: list[str]
    out_of_memory: bool = False

    @property
    def last_line(self) -> str | None:
        """The line that says most: the last one that is no traceback's frame."""
        return self.lines[-1] if self.lines else None


class EngineProcess:
    """A child that loads one engine. Its guard ends it if we are killed."""

    def __init__(
        self,
        plan: LoadPlan,
        on_frame: Callable[[frames.WorkerFrame], None],
        on_lines: Callable[[list[Line]], None],
        memory_events: Path | None = None,
    ) -> None:
        self._plan = plan
        self._memory_events = memory_events
        self._on_frame = on_frame
        self._on_lines = on_lines
        self._process: asyncio.subprocess.Process | None = None
        self._guard: Guard | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._lines = LastLines(KEPT_LINES)
        self._loaded = self._stopping = self._ended = False
        self.bad_lines = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def run(self) -> Ending:
        """Start the process and listen to it until it ends."""
        killed = oom_kills(self._memory_events)
        ours, theirs = socket.socketpair()
        environ = os.environ | {"RHAPSODE_CONTROL_FD": str(theirs.fileno()), "PYTHONUNBUFFERED": "1"}
        environ.pop(names.ENV_LIFELINE, None)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "rhapsode_worker.child"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor, which then stops us
                env=environ,
            )
        try:
            reader, self._writer = await asyncio.open_connection(sock=ours)
            self._guard = await Guard.over(self._process.pid)
            self._writer.write(msgspec.json.encode(self._plan) + b"\n")
            async with asyncio.TaskGroup() as tasks:
                output = tasks.create_task(self._keep_output())
                await self._listen(reader)
                await wait_gone(self._process, lambda: CLOSE_S)
                status = await self._end()
                await asyncio.wait({output}, timeout=_LAST_WORDS_S)
                output.cancel()
        finally:
            await self._end()
        out_of_memory = status == -signal.SIGKILL and _rose(killed, oom_kills(self._memory_events))
        how = describe_status(status) + (", out of memory" if out_of_memory else "")
        return Ending(how, status, self._lines.texts(), out_of_memory)

    def send(self, *sent: frames.RelayFrame) -> None:
        """Tell the engine something, all of it in one piece, if it still listens."""
        if self._writer is not None and not self._stopping and not self._writer.is_closing():
            self._writer.write(b"".join(map(frames.encode_frame, sent)))

    async def stop(self, hurry: asyncio.Event) -> None:
        """Let an engine that is loaded close, within bounds; end one that is not."""
        if self._writer is not None and self._loaded and not self._stopping and not self._writer.is_closing():
            assert self._process is not None
            self._stopping = True
            self._writer.write_eof()
            await wait_gone(self._process, lambda: CLOSE_HURRIED_S if hurry.is_set() else CLOSE_S)
        self.kill()

    def kill(self) -> None:
        """End the engine now, with the processes of its group."""
        if self._process is not None and not self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_READ_BYTES):
                data = rest + data
                cut = data.rfind(b"\n") + 1
                rest = data[cut:]
                for frame in self._decode(data[:cut]):
                    self._loaded |= isinstance(frame, frames.State) and frame.phase == "ready"
                    self._on_frame(frame)

    def _decode(self, block: bytes) -> list[frames.WorkerFrame]:
        """Return the frames of whole lines; a line that is none is counted and passed over."""
        try:
            return list(_frames.decode_lines(block))
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        found = []
        for line in filter(None, block.split(b"\n")):
            try:
                found.append(_frames.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.bad_lines += 1
        return found

    async def _keep_output(self) -> None:
        """Keep the last lines that the engine printed, and pass on what it prints."""
        assert self._process is not None
        assert self._process.stdout is not None
        cutter = LineCutter()
        try:
            while data := await self._process.stdout.read(_READ_BYTES):
                self._keep(cutter.push(data))
        finally:
            self._keep(cutter.end())

    def _keep(self, lines: list[Line]) -> None:
        self._lines.keep(lines)
        self._on_lines(lines)

    async def _end(self) -> int:
        """End what is left of it; return its status."""
        assert self._process is not None
        if self._writer is not None:
            self._writer.close()
        self.kill()
        if self._guard is not None:
            await self._guard.dismiss()
        await wait_gone(self._process)
        self._ended = True  # from here on its number may be another's
        return self._process.returncode or 0


async def wait_gone(process: asyncio.subprocess.Process, limit_s: Callable[[], float] = lambda: math.inf) -> None:
    """Wait for its end. asyncio's own wait is also for its output, which a process of its own may keep open."""
    began = time.monotonic()
    while process.returncode is None and time.monotonic() - began < limit_s():
        await asyncio.sleep(_LOOK_S)


def _rose(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after > before


def describe_status(status: int) -> str:
    """Return an exit status in words: `exit code 1`, `signal 9 (SIGKILL)`."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"signal {-status}"

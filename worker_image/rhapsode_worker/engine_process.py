"""One engine process, from its start to its end. Called by `supervising`."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from rhapsode_contract import frames, names
from rhapsode_contract.wording import clean
from rhapsode_worker.counting_kills import oom_kills
from rhapsode_worker.engines import LoadPlan

KEPT_LINES = 50
"""Lines of the engine's output that are kept to explain its end."""
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
    """A child that loads one engine. It ends when we do, since its control socket closes."""

    def __init__(
        self, plan: LoadPlan, on_frame: Callable[[frames.WorkerFrame], None], memory_events: Path | None = None
    ) -> None:
        self._plan = plan
        self._memory_events = memory_events
        self._on_frame = on_frame
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
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
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._writer.write(msgspec.json.encode(self._plan) + b"\n")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(reader))
                tasks.create_task(self._keep_output())
            status = await self._process.wait()
        finally:
            await self._end()
        out_of_memory = status == -signal.SIGKILL and _rose(killed, oom_kills(self._memory_events))
        how = describe_status(status) + (", out of memory" if out_of_memory else "")
        return Ending(how, status, list(self._lines), out_of_memory)

    def send(self, frame: frames.RelayFrame) -> None:
        """Tell the engine something, if it still listens."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(frames.encode_frame(frame))

    def stop(self) -> None:
        """Let the engine end: it does when its control socket closes."""
        if self._writer is not None:
            self._writer.close()

    def kill(self) -> None:
        """End the engine now."""
        if self._process is not None and self._process.returncode is None:
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
        """Keep the last lines that the engine printed; a progress bar's carriage returns end lines too."""
        assert self._process is not None
        assert self._process.stdout is not None
        rest = b""
        while data := await self._process.stdout.read(_READ_BYTES):
            *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
            self._keep(lines)
            rest = rest[-4096:]
        self._keep([rest])

    def _keep(self, lines: list[bytes]) -> None:
        self._lines.extend(text for line in lines if (text := clean(line.decode(errors="replace")).strip()))

    async def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self.kill()
        if self._process is not None:
            await self._process.wait()


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

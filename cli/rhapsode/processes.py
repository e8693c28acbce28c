"""The processes of a play: each started again when it dies, until one of them cannot work. Called by `playing`."""

import asyncio
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from rhapsode_contract import names
from rhapsode_contract.lifelines import send_signal

FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 5.0
STEADY_S = 10.0
"""A process that lived so long is started again at once when it dies."""
KILL_AFTER_S = 15.0
"""How much longer than its drain a process may take to end, also where the machine stalls."""
_LINE_BYTES = 4 * 1024 * 1024

OnLine = Callable[[bytes], None]
OnDeath = Callable[[str, str], None]
"""Called with a process's name and how it ended."""


class CannotWork(Exception):
    """A process says that no restart can help; the message is its last word on standard error, if any."""


class Process:
    """One process of a play."""

    def __init__(self, name: str, module: str, environ: Mapping[str, str], on_line: OnLine) -> None:
        self.name = name
        self._module = module
        self._environ = dict(environ) | {names.ENV_LIFELINE: "1", "PYTHONUNBUFFERED": "1"}
        self._on_line = on_line
        self._child: asyncio.subprocess.Process | None = None
        self._complaints: deque[str] = deque(maxlen=20)
        self._told: signal.Signals | None = None
        """The signal that asked it to end, if one did."""

    async def keep(self, on_death: OnDeath) -> None:
        """Run the process, again and again, until `stop`. Raises CannotWork."""
        pause_s = FIRST_PAUSE_S
        while self._told is None:
            born = time.monotonic()
            status = await self._run_once()
            if status == names.EXIT_CANNOT_WORK:
                raise CannotWork(self._complaints[-1] if self._complaints else "")
            if self._told is not None:
                return
            on_death(self.name, self._describe(status))
            pause_s = FIRST_PAUSE_S if time.monotonic() - born > STEADY_S else min(LAST_PAUSE_S, pause_s * 2)
            await asyncio.sleep(pause_s)

    def stop(self, sent: signal.Signals) -> None:
        """Ask the process to end, and do not start it again."""
        self._told = sent
        if self._child is not None:
            send_signal(self._child, sent)

    async def wait_gone(self, seconds: float) -> None:
        """Wait for the end; kill what takes longer."""
        if self._child is None:
            return
        try:
            await asyncio.wait_for(self._child.wait(), seconds)
        except TimeoutError:
            send_signal(self._child, signal.SIGKILL)
            await self._child.wait()

    async def _run_once(self) -> int:
        """Run the process to its end; it also ends when we do, since its standard input closes."""
        self._complaints.clear()
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environ,
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        if self._told is not None:  # while it was being born
            send_signal(self._child, self._told)
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        await asyncio.gather(
            _each_line(self._child.stdout, self._on_line), _each_line(self._child.stderr, self._complain)
        )
        return await self._child.wait()

    def _complain(self, line: bytes) -> None:
        if text := line.decode(errors="replace").strip():
            self._complaints.append(text)

    def _describe(self, status: int) -> str:
        how = f"exit code {status}" if status >= 0 else f"signal {-status} ({signal.Signals(-status).name})"
        return f"{how}: {self._complaints[-1]}" if self._complaints else how


async def _each_line(stream: asyncio.StreamReader, take: OnLine) -> None:
    async for line in stream:
        take(line)


async def stop_all(processes: list[Process], sent: signal.Signals, drain_s: float) -> None:
    """End all processes: at once for SIGINT, after their drain for SIGTERM."""
    for process in processes:
        process.stop(sent)
    seconds = KILL_AFTER_S + (drain_s if sent == signal.SIGTERM else 0)
    waits: list[Awaitable[None]] = [process.wait_gone(seconds) for process in processes]
    await asyncio.gather(*waits)

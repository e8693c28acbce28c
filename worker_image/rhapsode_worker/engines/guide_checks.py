"""Guides are tried in a process of their own before an engine sees them. Called by the engines that keep to any.

Engines compile a guide where they compute, for all requests together: one that is refused there, takes minutes, or
ends the compiler with a crash takes everyone along. What is tried here takes a process that nobody misses.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable

import msgspec

from rhapsode_contract.guides import Guide
from rhapsode_contract.lifelines import send_signal
from rhapsode_worker.engines.guide_compiling import CPU_S
from rhapsode_worker.errors import RequestError

START_S = 60.0
PATIENCE_S = 30.0
"""How long a guide may take on a machine that has no time for us."""
_LONGEST_ANSWER = 64 * 1024
_TOO_LONG = (-signal.SIGPROF, -signal.SIGALRM)


class GuideChecks:
    """Tries guides one by one. The process starts with the first guide, and again after one that ended it."""

    def __init__(self, compiler: str, path: str) -> None:
        """`compiler` is the module to run; it is told `path`, the model's."""
        self._command = (sys.executable, "-m", compiler, path)
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._closed = False

    async def check(self, guide: Guide, over: Callable[[], bool]) -> None:
        """Return if the guide can be used, or its request is `over`. Raises RequestError."""
        async with self._turn:
            why = "" if over() or self._closed else await self._try(guide)
        if why and not (over() or self._closed):
            what = f"the {guide.words} cannot be used: {why}"
            raise RequestError(f"invalid_{guide.kind}", what, "Correct or simplify it.", param=guide.kind)

    async def close(self) -> None:
        """End the process; who waits for it goes on."""
        self._closed = True
        await self._end()

    async def _try(self, guide: Guide) -> str:
        """Return why a guide cannot be used, "" if it can."""
        while True:
            known = self._process
            try:
                process = await self._at_work()
                answer = await _exchange(process, msgspec.json.encode(guide) + b"\n", PATIENCE_S)
            except asyncio.CancelledError:  # the next guide must not get what this one did not wait for
                self._leave()
                raise
            if answer:
                return msgspec.json.decode(answer, type=str)
            status = await self._end()
            if status in _TOO_LONG:
                return f"compiling it takes more than {CPU_S:g} s"
            if process is not known or self._closed:
                return "its compiler failed"
            # one that was there before may have died before it saw this guide: a new one tells

    async def _at_work(self) -> asyncio.subprocess.Process:
        """Return the process, ready for a guide. Raises RequestError."""
        if self._process is not None and self._process.returncode is None:
            return self._process
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # its troubles are a guide's, the engine's output is for the engine's
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # it finds what we find
            limit=_LONGEST_ANSWER,
        )
        if self._closed or not await _exchange(process, b"", START_S):
            await self._end()
            if not self._closed:
                why = "the process that compiles JSON schemas, regular expressions and grammars did not start"
                raise RequestError("engine_error", why, "Send the request again.")
        return process

    def _leave(self) -> None:
        """End the process without waiting for it."""
        process, self._process = self._process, None
        if process is not None:
            send_signal(process, signal.SIGKILL)

    async def _end(self) -> int | None:
        """End the process; return its status: its own if it was already gone."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 0 if self._closed else 0.5)
        send_signal(process, signal.SIGKILL)
        return await process.wait()


async def _exchange(process: asyncio.subprocess.Process, line: bytes, seconds: float) -> bytes:
    """Send a line and return the one that comes back; nothing if the process ends, or takes too long."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line)
        return await asyncio.wait_for(process.stdout.readline(), seconds)
    except (OSError, TimeoutError, ValueError):
        return b""

"""Import TensorRT-LLM in a process apart, and judge what it lacks. Called by `checking`.

Apart and before the load, so that a load that fails later is known to fail for another reason; the load's own import
then finds the files in the page cache.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path

import msgspec

from rhapsode_worker.engine_process import describe_status, wait_gone
from rhapsode_worker.engines import LoadPlan
from rhapsode_worker.engines.tensorrt_llm_failures import find_cause
from rhapsode_worker.guarding import Guard
from rhapsode_worker.output_lines import LastLines, LineCutter
from rhapsode_worker.selfcheck.findings import Finding, failure, not_checked
from rhapsode_worker.selfcheck.importing import Imported
from rhapsode_worker.selfcheck.telling import SHOWN_LINES, Teller

_READ_BYTES = 64 * 1024
_STILL_S = 10.0
_SHOWN = 8


class Comparison:
    """The package as one process imported it."""

    def __init__(self, plan: LoadPlan, teller: Teller) -> None:
        self._plan = plan
        self._teller = teller
        self._imported: Imported | None = None

    async def imports(self) -> Finding:
        """Import the package; return whether that works."""
        with tempfile.TemporaryDirectory(prefix="rhapsode-") as folder:
            told = Path(folder) / "imported.json"
            status, lines = await self._run(told)
            if told.is_file():
                self._imported = msgspec.json.decode(told.read_bytes(), type=Imported)
        found = self._imported
        if found is None:
            known = find_cause("\n".join(lines))
            why = f"the import ended by {describe_status(status)}" + (f": {known.why}" if known else "")
            return failure(why, known.remedy if known else "Look at its last lines.", lines[-SHOWN_LINES:])
        if found.why:
            return failure(found.why, found.remedy, lines[-SHOWN_LINES:], facts={"reason": found.reason})
        facts = {"version": found.version, "known": found.known}
        if found.other:
            remedy = f"Nothing, if all else is ok; else an image with TensorRT-LLM {found.known}."
            words = f"imported {found.version}; this adapter was written for {found.known}"
            return Finding(outcome="warning", measured=words, remedy=remedy, facts=facts)
        return Finding(measured=f"imported {found.version}", facts=facts)

    async def signatures(self) -> Finding:
        """Return what the package lacks of what we use."""
        assert self._imported is not None, "it was imported before"
        lacks = self._imported.differences
        if lacks is None:
            return not_checked("nothing here reads YAML, in which the signatures are")
        if not lacks:
            return Finding(measured="all that we use is there", facts={"differences": []})
        more = f"; and {len(lacks) - _SHOWN} more" if len(lacks) > _SHOWN else ""
        remedy = f"Use an image with TensorRT-LLM {self._imported.known}, or tell us in an issue."
        return failure("; ".join(lacks[:_SHOWN]) + more, remedy, facts={"differences": lacks})

    async def _run(self, told: Path) -> tuple[int, list[str]]:
        """Run the import to its end; return its exit status and last lines."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rhapsode_worker.selfcheck.importing", str(told)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdin is not None
        guard: Guard | None = None
        still = asyncio.create_task(self._tell_still())
        try:
            guard = await Guard.over(process.pid)
            process.stdin.write(msgspec.json.encode(self._plan) + b"\n")
            return await _listen(process)
        finally:
            still.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if guard is not None:
                await guard.dismiss()
            await wait_gone(process)

    async def _tell_still(self) -> None:
        seconds = 0.0
        while True:
            await asyncio.sleep(_STILL_S)
            seconds += _STILL_S
            self._teller.line(f"Still importing TensorRT-LLM, {seconds:g} s")


async def _listen(process: asyncio.subprocess.Process) -> tuple[int, list[str]]:
    """Return how a process ended, and its last lines; what it left behind may hold its output open."""
    assert process.stdout is not None
    kept, cutter = LastLines(SHOWN_LINES), LineCutter()
    reading = asyncio.create_task(_read(process.stdout, kept, cutter))
    try:
        await wait_gone(process)
        await asyncio.wait({reading}, timeout=1.0)
    finally:
        reading.cancel()
    kept.keep(cutter.end())
    return process.returncode or 0, kept.texts()


async def _read(stream: asyncio.StreamReader, kept: LastLines, cutter: LineCutter) -> None:
    while data := await stream.read(_READ_BYTES):
        kept.keep(cutter.push(data))

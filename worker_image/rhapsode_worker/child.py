"""The engine process: `python -m rhapsode_worker.child`. Loads one engine and runs requests until it is told to end.

It talks to its supervisor over one socket (descriptor `RHAPSODE_CONTROL_FD`): first a `LoadPlan` in, then the
frames of the worker socket both ways. Its standard output and error are the engine's, whatever it prints.
It closes the engine and ends when the supervisor has no more to say. It must not load before it is told to: only
then it is certain that it ends with its supervisor, even a killed one, whatever it is busy with (`guarding`).
"""

import asyncio
import os
import socket
import sys
import traceback
from typing import Any

import msgspec

from rhapsode_contract import frames, names
from rhapsode_contract.catalogue import narrate
from rhapsode_worker.engines import CLOSE_S, Engine, LoadPlan, make_engine
from rhapsode_worker.errors import LoadError
from rhapsode_worker.sessions import Session

ENV_CONTROL = "RHAPSODE_CONTROL_FD"
STATS_EVERY_S = 1.0
_commands = msgspec.json.Decoder(frames.RelayFrame)


class Child:
    """The engine and the requests that run on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._engine: Engine | None = None
        self._sessions: dict[str, Session] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._closing = False

    async def run(self) -> int:
        """Load, then serve, then close; return the process's exit status."""
        if not (told := await self._reader.readline()):
            return 0
        plan = msgspec.json.decode(told, type=LoadPlan)
        try:
            await self._load(plan)
        except LoadError as exc:
            fields = {"model": plan.model, "why": exc.why, "remedy": exc.remedy, "reason": exc.reason}
            self._send(said := narrate("load_failed", fields))
            self._send(frames.State(phase="failed", reason=exc.reason, message=said.human))
            await self._writer.drain()
            await self._close()
            return names.EXIT_CANNOT_WORK
        telling = asyncio.create_task(self._tell_blocks())
        while line := await self._reader.readline():
            self._obey(_commands.decode(line))
        telling.cancel()
        await self._close()
        return 0

    async def _close(self) -> None:
        """Let the engine give back what processes of its own hold. One that does not is ended with this process."""
        self._closing = True
        if self._engine is None:
            return
        try:
            await asyncio.wait_for(self._engine.close(), CLOSE_S)
        except Exception:  # what is left cannot be waited for: threads of it may hang
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(os.EX_SOFTWARE)

    async def _load(self, plan: LoadPlan) -> None:
        self._tell("engine_import", engine=plan.engine)
        self._engine = make_engine(plan.engine)
        caps = await self._engine.load(plan, self._tell)
        self._send(frames.State(phase="ready", caps=caps))

    async def _tell_blocks(self) -> None:
        """Tell how full the KV cache is, as often as it changed, of an engine that knows."""
        assert self._engine is not None
        told = frames.Stats()
        while True:
            stats = self._engine.stats()
            blocks = frames.Stats(kv_used=stats.kv_used, kv_total=stats.kv_total)
            if blocks != told:
                self._send(told := blocks)
            await asyncio.sleep(STATS_EVERY_S)

    def _obey(self, command: frames.RelayFrame) -> None:
        assert self._engine is not None
        if isinstance(command, frames.Generate):
            session = Session(self._engine, command, self._send, self._writer.drain)
            self._sessions[command.job_id] = session
            task = asyncio.ensure_future(self._serve(command.job_id, session))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        elif isinstance(command, frames.Cancel) and (known := self._sessions.get(command.job_id)):
            known.abort()

    async def _serve(self, job_id: str, session: Session) -> None:
        try:
            await session.run()
        except Exception:  # the engine broke: only a new process can be trusted
            if self._closing:
                return
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(os.EX_SOFTWARE)
        finally:
            self._sessions.pop(job_id, None)

    def _send(self, frame: frames.WorkerFrame) -> None:
        self._writer.write(frames.encode_frame(frame))

    def _tell(self, action: str, progress: float | None = None, **fields: Any) -> None:
        self._send(narrate(action, fields, progress=progress))


async def _main() -> int:
    control = socket.socket(fileno=int(os.environ[ENV_CONTROL]))
    control.setblocking(False)
    control.set_inheritable(False)  # a process that outlives us must not keep our supervisor listening
    reader, writer = await asyncio.open_connection(sock=control, limit=names.MAX_COMMAND_BYTES)
    return await Child(reader, writer).run()


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))

"""The init container that fetches an hf:// model before the worker starts: `python -m rhapsode_worker.prefetching`.

The relay is up already. It hears from here what the worker would tell, as from any process of the pod, and how far
the fetch is. Whatever ends this process, the next one goes on with the bytes that are there.
"""

import asyncio
import logging
import os
import sys

from rhapsode_contract import frames, names
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.conditions import FAILURES
from rhapsode_contract.lifelines import listen_for_stop, run_to_its_end
from rhapsode_contract.manifests import load_given_manifest
from rhapsode_contract.records import log_to_stdout
from rhapsode_worker.errors import LoadError
from rhapsode_worker.giving_up import write_termination
from rhapsode_worker.linking import RelayLink
from rhapsode_worker.preparing import prepare_model
from rhapsode_worker.settings import WorkerSettings
from rhapsode_worker.voice import Voice

EXIT_AGAIN = 1
"""The next start may get further."""
EXIT_STOPPED = 143
TICK_S = 0.5
FLUSH_S = 1.0
LOOK_S = 0.01


def main() -> int:
    """Fetch the model; return the process's exit status."""
    try:
        settings = WorkerSettings.load(load_given_manifest(os.environ), os.environ)
    except ValueError as exc:
        sys.stderr.write(f"rhapsode-model: {exc}\n")
        return names.EXIT_CANNOT_WORK
    return run_to_its_end(_run(settings))


async def _run(settings: WorkerSettings) -> int:
    stopping, _ = listen_for_stop(asyncio.get_running_loop(), os.environ)
    fetch = Prefetch(settings, log_to_stdout("model", settings.worker_id))
    return await fetch.run(stopping)


class Prefetch:
    """One fetch, and who hears of it."""

    def __init__(self, settings: WorkerSettings, logger: logging.Logger) -> None:
        self._settings = settings
        self._link = RelayLink(settings.socket, self._introduce, lambda _: None)
        self._voice = Voice(logger, self._tell)

    async def run(self, stopping: asyncio.Event) -> int:
        """Fetch the model; return the process's exit status."""
        link = asyncio.create_task(self._link.keep())
        chores = asyncio.create_task(self._break_silence())
        work = asyncio.create_task(self._fetch())
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        status = work.result() if work.done() else EXIT_STOPPED
        await self._say_farewell()
        for task in (link, chores, work, stop):
            task.cancel()
        await asyncio.gather(link, chores, work, stop, return_exceptions=True)
        return status

    async def _fetch(self) -> int:
        engine = self._settings.engine.name or "OpenVINO"
        self._voice.begin_load({})
        try:
            await prepare_model(self._settings, engine, self._voice)
        except LoadError as exc:
            return self._give_up(exc)
        return 0

    def _give_up(self, exc: LoadError) -> int:
        fields = {"model": self._settings.model, "why": exc.why, "remedy": exc.remedy, "reason": exc.reason}
        said = narrate("load_failed", fields)
        self._voice.tell(said)
        write_termination(self._settings.termination_log, exc.reason, said.human)
        final = exc.reason in FAILURES and FAILURES[exc.reason].stalls
        return names.EXIT_CANNOT_WORK if final else EXIT_AGAIN

    # The relay

    def _tell(self, frame: frames.WorkerFrame) -> None:
        if isinstance(frame, frames.Narration | frames.Load):
            self._link.send(frame)

    def _introduce(self) -> list[frames.WorkerFrame]:
        """Return what a relay is told that has just come: the latest words, and how far it is."""
        known = self._voice.recap()
        said = [frame for frame in known if isinstance(frame, frames.Narration)]
        return [*said[-1:], *(frame for frame in known if isinstance(frame, frames.Load))]

    async def _say_farewell(self) -> None:
        """Wait until the relay has heard everything, for a moment only. A stall of the machine is no part of it."""
        for _ in range(round(FLUSH_S / LOOK_S)):
            if self._link.connected:
                break
            await asyncio.sleep(LOOK_S)
        await self._link.leave(FLUSH_S)

    async def _break_silence(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._voice.break_silence()


if __name__ == "__main__":
    sys.exit(main())

"""The worker process: `python -m rhapsode_worker`. Reads its settings, starts the supervisor, obeys signals."""

import asyncio
import os
import sys

from rhapsode_contract import names
from rhapsode_contract.lifelines import listen_for_stop, run_to_its_end
from rhapsode_contract.manifests import load_given_manifest
from rhapsode_contract.records import log_to_stdout
from rhapsode_worker.settings import WorkerSettings
from rhapsode_worker.supervising import Supervisor


def main() -> int:
    """Run a worker until it is told to stop; return the process's exit status."""
    try:
        settings = WorkerSettings.load(load_given_manifest(os.environ), os.environ)
    except ValueError as exc:
        return _complain(str(exc))
    return run_to_its_end(_run(settings))


async def _run(settings: WorkerSettings) -> int:
    stopping, hurry = listen_for_stop(asyncio.get_running_loop(), os.environ)
    return await Supervisor(settings, log_to_stdout("worker", settings.worker_id)).run(stopping, hurry)


def _complain(message: str) -> int:
    sys.stderr.write(f"rhapsode-worker: {message}\n")
    return names.EXIT_CANNOT_WORK


if __name__ == "__main__":
    sys.exit(main())

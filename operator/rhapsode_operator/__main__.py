"""The operator process: `python -m rhapsode_operator`."""

import gc
import logging
import os
import sys

import uvloop

from rhapsode_contract import names
from rhapsode_contract.lifelines import run_to_its_end
from rhapsode_contract.records import log_to_stdout
from rhapsode_operator.assembling import Assembly
from rhapsode_operator.errors import CannotRun, OperatorError
from rhapsode_operator.running import Seam, run
from rhapsode_operator.settings import OperatorSettings


def main(seam: Seam | None = None) -> int:
    """Run an operator until it is told to stop; return the process's exit status."""
    try:
        settings = OperatorSettings.from_env(os.environ)
        log_to_stdout("operator", settings.identity, settings.log_level)
        _spare_the_collector()
        run_to_its_end(run(settings, seam or Assembly()), uvloop.run)
    except CannotRun as exc:
        return _complain(exc.message, names.EXIT_CANNOT_WORK)
    except OperatorError as exc:
        logging.getLogger("rhapsode.operator").exception("%s", exc.message)
        return _complain(exc.message, 1)
    return 0


def _spare_the_collector() -> None:
    """Let the garbage collector look seldom: a look takes longer the more resources are known, and finds little."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"rhapsode-operator: {message}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())

"""`rhapsode selfcheck`: hand over to the worker's own check, which is also in its image. Called by `rhapsode`."""

import argparse
import importlib.util
import os
import sys
from typing import Any

from rhapsode.errors import CommandError

MODULE = "rhapsode_worker.selfchecking"
_NO_OPTION = "\0"
"""What an option begins with here: nothing that can be typed. The check reads its own."""


def add_parser(commands: Any) -> None:
    """Add `selfcheck` to the commands."""
    parser = commands.add_parser(
        "selfcheck",
        help="check an engine on this machine, and print a report for an issue",
        prefix_chars=_NO_OPTION,
        add_help=False,
    )
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Become the check."""
    if importlib.util.find_spec("pynvml") is None:
        raise CommandError("selfcheck needs the worker: pip install 'rhapsode[worker,openvino]'")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", MODULE, *args.rest])  # noqa: S606 (our own program)

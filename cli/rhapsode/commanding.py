"""A program of several commands: its help, and the one that was chosen. Called by both programs' `__main__`."""

import argparse
from collections.abc import Sequence
from typing import Any, Protocol

from rhapsode.ending import run_to_end
from rhapsode.errors import EXIT_HELP


class Command(Protocol):
    """A module that adds a parser, whose `run` takes the arguments and returns the exit status."""

    def add_parser(self, commands: Any, /) -> None: ...


def run_command(
    program: str, description: str, examples: str, commands: Sequence[Command], argv: list[str] | None
) -> int:
    """Run the command that was chosen; return the exit status. Errors are one line on standard error."""
    parser = argparse.ArgumentParser(
        program,
        description=description,
        epilog=f"{examples}\n\n{EXIT_HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    chosen = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in commands:
        command.add_parser(chosen)

    def run() -> int:
        args = parser.parse_args(argv)
        return int(args.run(args))

    return run_to_end(program, run)

"""The command line: `rhapsode play | ask | watch | narrate`."""

import argparse
import sys

from rhapsode import asking, narrating, playing, watching
from rhapsode.ending import run_to_end
from rhapsode.errors import EXIT_HELP

DESCRIPTION = "Inference workers that tell you what they are doing."
EXAMPLES = """examples:
  rhapsode play examples/smollm.yaml                  run a worker and its relay on this machine
  rhapsode play examples/smollm.yaml --ask "Hello?"   ask one question and stop
  rhapsode ask "Why is the sky blue?"                 tokens to stdout, narration to stderr
  rhapsode watch                                      the worker's life as it happens
  rhapsode narrate "Fetching adapters" --progress 0.4 tell everyone who watches"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return the exit status. Errors are one line on standard error."""
    return run_to_end("rhapsode", lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        "rhapsode",
        description=DESCRIPTION,
        epilog=f"{EXAMPLES}\n\n{EXIT_HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (playing, asking, watching, narrating):
        command.add_parser(commands)
    args = parser.parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())

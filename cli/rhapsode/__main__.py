"""The command line: `rhapsode play | ask | watch | narrate`."""

import argparse
import os
import signal
import sys

from rhapsode import asking, narrating, playing, watching
from rhapsode.errors import EXIT_INTERRUPTED, CommandError

DESCRIPTION = "Inference workers that tell you what they are doing."
EXAMPLES = """examples:
  rhapsode play examples/smollm.yaml                  run a worker and its relay on this machine
  rhapsode play examples/smollm.yaml --ask "Hello?"   ask one question and stop
  rhapsode ask "Why is the sky blue?"                 tokens to stdout, narration to stderr
  rhapsode watch                                      the worker's life as it happens
  rhapsode narrate "Fetching adapters" --progress 0.4 tell everyone who watches"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return the exit status. Errors are one line on standard error."""
    parser = argparse.ArgumentParser(
        "rhapsode",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (playing, asking, watching, narrating):
        command.add_parser(commands)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except CommandError as exc:
        sys.stderr.write(f"rhapsode: {exc}\n")
        return exc.status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `rhapsode play | ask | watch | narrate | selfcheck`."""

import sys

from rhapsode import asking, narrating, playing, selfchecking, watching
from rhapsode.commanding import run_command

DESCRIPTION = "Inference workers that tell you what they are doing."
EXAMPLES = """examples:
  rhapsode play examples/smollm.yaml                  run a worker and its relay on this machine
  rhapsode play examples/smollm.yaml --ask "Hello?"   ask one question and stop
  rhapsode ask "Why is the sky blue?"                 tokens to stdout, narration to stderr
  rhapsode watch                                      the worker's life as it happens
  rhapsode narrate "Fetching adapters" --progress 0.4 tell everyone who watches
  rhapsode selfcheck                                  does the engine work here? a report for an issue"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return the exit status. Errors are one line on standard error."""
    return run_command("rhapsode", DESCRIPTION, EXAMPLES, (playing, asking, watching, narrating, selfchecking), argv)


if __name__ == "__main__":
    sys.exit(main())

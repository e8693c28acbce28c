"""The plugin: `kubectl rhapsode ask | watch | explain`. kubectl finds it as `kubectl-rhapsode` on the PATH."""

import argparse
import sys

from rhapsode.ending import run_to_end
from rhapsode.errors import EXIT_HELP
from rhapsode.kubectl import asking, explaining, watching

DESCRIPTION = """Ask, watch and explain InferenceWorkers, through the API server, with your kubeconfig. No ingress."""
EXAMPLES = """examples:
  kubectl rhapsode ask choir "Why is the sky blue?"   tokens to stdout, narration to stderr
  kubectl rhapsode watch                              every worker of the namespace, a line per change
  kubectl rhapsode watch choir --until-ready          one worker: narration, conditions, Events
  kubectl rhapsode explain choir                      why it is as it is, and what to do next"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return the exit status. Errors are one line on standard error."""
    return run_to_end("kubectl rhapsode", lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        "kubectl rhapsode",
        description=DESCRIPTION,
        epilog=f"{EXAMPLES}\n\n{EXIT_HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (asking, watching, explaining):
        command.add_parser(commands)
    args = parser.parse_args(argv)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())

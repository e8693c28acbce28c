"""The plugin: `kubectl rhapsode ask | watch | explain`. kubectl finds it as `kubectl-rhapsode` on the PATH."""

import argparse
import os
import signal
import sys

from rhapsode.errors import EXIT_INTERRUPTED, CommandError
from rhapsode.kubectl import asking, explaining, watching

DESCRIPTION = """Ask, watch and explain InferenceWorkers, through the API server, with your kubeconfig. No ingress."""
EXAMPLES = """examples:
  kubectl rhapsode ask choir "Why is the sky blue?"   tokens to stdout, narration to stderr
  kubectl rhapsode watch                              every worker of the namespace, a line per change
  kubectl rhapsode watch choir --until-ready          one worker: narration, conditions, Events
  kubectl rhapsode explain choir                      why it is as it is, and what to do next"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return the exit status. Errors are one line on standard error."""
    parser = argparse.ArgumentParser(
        "kubectl rhapsode",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (asking, watching, explaining):
        command.add_parser(commands)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except CommandError as exc:
        sys.stderr.write(f"kubectl rhapsode: {exc}\n")
        return exc.status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main())

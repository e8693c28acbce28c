"""The plugin: `kubectl rhapsode ask | watch | explain`. kubectl finds it as `kubectl-rhapsode` on the PATH."""

import sys

from rhapsode.commanding import run_command
from rhapsode.kubectl import asking, explaining, watching

DESCRIPTION = """Ask, watch and explain InferenceWorkers, through the API server, with your kubeconfig. No ingress."""
EXAMPLES = """examples:
  kubectl rhapsode ask choir "Why is the sky blue?"   tokens to stdout, narration to stderr
  kubectl rhapsode watch                              every worker of the namespace, a line per change
  kubectl rhapsode watch choir --until-ready          one worker: narration, conditions, Events
  kubectl rhapsode explain choir                      why it is as it is, and what to do next"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; return the exit status. Errors are one line on standard error."""
    return run_command("kubectl rhapsode", DESCRIPTION, EXAMPLES, (asking, watching, explaining), argv)


if __name__ == "__main__":
    sys.exit(main())

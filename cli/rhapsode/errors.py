"""Errors of the command line.

* CommandError     one line for the person, and the exit status: what, where, what to do
"""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_MISMATCH = 3
"""The text that came is not the text that was sent."""
EXIT_TRY_LATER = 75
"""EX_TEMPFAIL of sysexits.h: the same command may succeed later."""
EXIT_INTERRUPTED = 130


EXIT_HELP = """exit status:
  0 done   1 failed, or only a person can help   2 not a command   3 the text is not what was sent
  75 try again later   130 Ctrl-C   141 nobody takes the output"""


class CommandError(Exception):
    """A command cannot go on."""

    def __init__(self, message: str, status: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.status = status

"""Check an engine on this machine, and say so in a report: `python -m rhapsode_worker.selfchecking`.

`rhapsode selfcheck` is this, on a laptop and in the worker's image. Progress goes to standard error, the report to
standard output. Exit status: 0 nothing failed, 1 a check failed, 2 the command or the manifest is wrong.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from rhapsode_contract import __version__
from rhapsode_contract.records import timestamp
from rhapsode_contract.validating import ManifestError
from rhapsode_worker.engines import ENGINES
from rhapsode_worker.selfcheck.checking import Course
from rhapsode_worker.selfcheck.findings import Report, as_json, as_text, make_report
from rhapsode_worker.selfcheck.gpus import Gpus
from rhapsode_worker.selfcheck.redacting import redacted, secrets_of
from rhapsode_worker.selfcheck.subjects import Subject, default_engine, given_subject, small_subject
from rhapsode_worker.selfcheck.telling import Teller
from rhapsode_worker.voice import Voice

EXIT_FAILED, EXIT_USAGE = 1, 2
TIMEOUT_S, LONGEST_S = 1800.0, 86_400.0
EXAMPLES = """examples:
  rhapsode selfcheck                                  the engine that a worker would choose here
  rhapsode selfcheck --engine OpenVINO --json | jq .result
  rhapsode selfcheck --manifest examples/smollm.yaml  with its model, engine and options
  docker run --rm --gpus all --shm-size 2g --entrypoint rhapsode IMAGE selfcheck

exit status:
  0 nothing failed (what was skipped was not checked)   1 a check failed   2 the command or the manifest is wrong
  130 Ctrl-C"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    _open_what_is_closed()
    args = _parser().parse_args(argv)
    try:
        report = asyncio.run(_check(args))
    except ManifestError as exc:
        _complain(f"{args.manifest}: {'; '.join(map(str, exc.problems))}")
        return EXIT_USAGE
    except OSError as exc:
        _complain(f"{exc}; it needs a folder for temporary files: mount a volume at /tmp, or set TMPDIR")
        return EXIT_FAILED
    except asyncio.CancelledError:
        _complain("interrupted; the engine was ended")
        return 128 + (_told or signal.SIGINT)
    return _print(as_json(report) if args.json else as_text(report), EXIT_FAILED if report.result == "failed" else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "rhapsode selfcheck",
        description="Check whether an engine works on this machine: driver, GPUs, package, a small model, its"
        " answers, and that all memory comes back. Prints a report for an issue; it holds no secrets.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--engine", choices=sorted(ENGINES), help="the engine; else what a worker chooses here")
    parser.add_argument(
        "--manifest", metavar="FILE", type=Path, help="an InferenceWorker manifest; else a small model"
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=TIMEOUT_S,
        help="how long all of it may take (default: %(default)g)",
    )  # fmt: skip
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0 and at most {LONGEST_S:g}, got {text!r}")
    return seconds


async def _check(args: argparse.Namespace) -> Report:
    """Make the checks. Raises ManifestError, and CancelledError when a signal ends it."""
    _obey_signals()
    teller = Teller()
    logger = logging.getLogger("rhapsode.selfcheck")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    voice = Voice(logger, teller.frame)
    gpus = Gpus(voice)
    await gpus.begin()
    try:
        subject = _subject(args, default_engine(gpus.any))
        rows = await Course(subject, gpus, voice, teller, dict(os.environ)).run(args.timeout)
    finally:
        await gpus.end()
    report = make_report(rows, rhapsode=__version__, engine=subject.engine, model=subject.words, at=timestamp())
    return redacted(report, secrets_of(os.environ), socket.gethostname())


def _subject(args: argparse.Namespace, default: str) -> Subject:
    if args.manifest is not None:
        return given_subject(args.manifest, args.engine, default)
    return small_subject(args.engine or default)


_told: signal.Signals | None = None


def _obey_signals() -> None:
    """Let the first signal cancel the check, whose engine then ends."""
    task = asyncio.current_task()
    assert task is not None

    def cancel(sent: signal.Signals) -> None:
        global _told  # noqa: PLW0603 (the exit status names it)
        if _told is None:
            _told = sent
            task.cancel()

    loop = asyncio.get_running_loop()
    for sent in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sent, cancel, sent)


def _open_what_is_closed() -> None:
    """Open a standard stream that whoever started us closed: a number that is free would be some pipe's."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            how = "w" if name == "stderr" else "r"  # a report that cannot be written is told
            setattr(sys, name, Path(os.devnull).open(how, encoding="utf-8"))  # noqa: SIM115 (until the end)


def _print(text: str, status: int) -> int:
    """Print the report; what nobody takes, or no disk holds, is a failure."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as exc:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try again at its end
        _complain(f"cannot write the report: {exc.strerror or exc}")
        return EXIT_FAILED
    return status


def _complain(message: str) -> None:
    sys.stderr.write(f"rhapsode selfcheck: {message}\n")


if __name__ == "__main__":
    sys.exit(main())

"""`rhapsode narrate`: one sentence from a shell script to everyone who watches the worker."""

import argparse
import json
from typing import Any

from rhapsode.errors import EXIT_USAGE, CommandError
from rhapsode.narrator import CannotNarrate, Narrator

EXAMPLES = """examples:
  rhapsode narrate "Fetching weights" --action fetch --progress 0.4
  rhapsode narrate "Disk is nearly full" --level warn --field free_bytes=1200000
  echo '{"action":"fetch","human":"Fetching weights"}' | nc -N -U $RHAPSODE_SOCKET"""


def add_parser(commands: Any) -> None:
    """Add `narrate` to the commands."""
    parser = commands.add_parser(
        "narrate",
        help="tell everyone who watches the worker what you are doing",
        description="Send one narration to the worker socket ($RHAPSODE_SOCKET), from any process of the pod.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("human", metavar="TEXT", help="one sentence for people")
    parser.add_argument("--action", default="note", help="a stable word for programs (default: %(default)s)")
    parser.add_argument("--actor", default="script", help="who speaks (default: %(default)s)")
    parser.add_argument("--target", default="", help="what it happens to")
    parser.add_argument("--level", default="info", choices=("debug", "info", "warn", "error"))
    parser.add_argument("--progress", type=_fraction, metavar="0..1", help="how far it is")
    parser.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a fact behind the words; JSON or text",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    fields = dict(_field(text) for text in args.field)
    try:
        Narrator(actor=args.actor, strict=True).say(
            args.human,
            action=args.action,
            target=args.target,
            level=args.level,
            progress=args.progress,
            **fields,
        )
    except CannotNarrate as exc:
        raise CommandError(str(exc)) from exc
    return 0


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected 0..1, got {text}")
    return value


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise CommandError(f"--field: expected NAME=VALUE, got {text!r}", EXIT_USAGE)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value

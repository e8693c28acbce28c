"""`kubectl rhapsode watch [NAME]`: all workers of a namespace, or one with its pods, as things happen."""

import argparse
import sys
from typing import Any

from rhapsode.errors import EXIT_USAGE, CommandError
from rhapsode.kubectl.choosing import add_choice, object_name, reach, seconds
from rhapsode.kubectl.following import Following
from rhapsode.kubectl.listing import Listing
from rhapsode.painting import Painter

EXAMPLES = """examples:
  kubectl rhapsode watch                                   a line per change, every worker of the namespace
  kubectl rhapsode watch -A
  kubectl rhapsode watch choir --narration story           what its pods say, its conditions and Events
  kubectl rhapsode watch choir --until-ready --timeout 600 && echo go"""


def add_parser(commands: Any) -> None:
    """Add `watch` to the commands."""
    parser = commands.add_parser(
        "watch",
        help="watch workers: narration, load, conditions, Events",
        description="Without NAME, a line for each change of every worker. With NAME, what its pods narrate, its"
        " conditions and Events, as they happen. Goes on across restarts of everything; end it with Ctrl-C.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name", type=object_name, metavar="NAME", nargs="?", help="the InferenceWorker (default: all)"
    )
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="workers of all namespaces")
    add_choice(parser)
    parser.add_argument(
        "--narration", choices=("human", "cute", "story"), help="which words to show (default: the manifest's)"
    )
    parser.add_argument(
        "--until-ready",
        action="store_true",
        help="exit 0 when it is ready, 1 when only a person can help (without NAME: all of them)",
    )
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help="end after S seconds; with --until-ready exit 75 then"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    if args.name and args.all_namespaces:
        raise CommandError("a NAME is of one namespace: leave -A out, or the NAME", EXIT_USAGE)
    with reach(args, everywhere=args.all_namespaces) as cluster:
        if args.name:
            painter = Painter("human", sys.stdout)
            following = Following(cluster, args.name, painter, args.narration)
            return following.follow(until_ready=args.until_ready, timeout_s=args.timeout)
        return Listing(cluster, sys.stdout).follow(until_ready=args.until_ready, timeout_s=args.timeout)

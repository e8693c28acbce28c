"""`kubectl rhapsode explain`: why a worker is as it is, in one screen, and what to do next."""

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from rhapsode.kubectl.advising import advise
from rhapsode.kubectl.carrying import ForbiddenError
from rhapsode.kubectl.choosing import add_choice, object_name, reach
from rhapsode.kubectl.drawing import draw
from rhapsode.kubectl.facts import Facts, facts_of
from rhapsode.kubectl.reaching import EVENTS, Cluster

JSON = Mapping[str, Any]
EXAMPLES = """examples:
  kubectl rhapsode explain choir
  kubectl rhapsode explain choir -n music -o json | jq .failure.reason"""


def add_parser(commands: Any) -> None:
    """Add `explain` to the commands."""
    parser = commands.add_parser(
        "explain",
        help="why a worker is as it is, and what to do next",
        description="Show in one screen what is wrong with a worker and its remedy, its conditions, pods and latest"
        " Events, and the commands to go on with.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", type=object_name, metavar="NAME", help="the InferenceWorker")
    add_choice(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="(default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    with reach(args) as cluster:
        worker = cluster.worker(args.name)
        facts = explain(worker, events_about(cluster, worker), datetime.now(UTC), cluster.flags)
    if args.output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(facts), indent=2).decode() + "\n")
    else:
        sys.stdout.write(draw(facts, shutil.get_terminal_size((100, 24)).columns))
    return 0


def explain(worker: JSON, events: Sequence[JSON], now: datetime, flags: str = "") -> Facts:
    """Return all that is to be said of a worker."""
    facts = facts_of(worker, events, now)
    facts.next = advise(facts, flags, suspended_by_spec=bool((worker.get("spec") or {}).get("suspend")))
    return facts


def events_about(cluster: Cluster, worker: JSON) -> list[JSON]:
    """Return the Events of a worker and its pods; none where the user may not read them."""
    path = f"{cluster.base(EVENTS)}/events"
    name, pods = worker["metadata"]["name"], pods_of(worker)
    try:
        ours = cluster.items(path, fieldSelector=f"involvedObject.kind=InferenceWorker,involvedObject.name={name}")
        theirs = cluster.items(path, fieldSelector="involvedObject.kind=Pod") if pods else []
    except ForbiddenError:
        return []
    return [*ours, *(event for event in theirs if event["involvedObject"].get("name") in pods)]


def pods_of(worker: JSON) -> list[str]:
    """Return the names of a worker's pods, as the operator knows them."""
    return [one["pod"] for one in (worker.get("status") or {}).get("workers") or []]

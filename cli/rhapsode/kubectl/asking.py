"""`kubectl rhapsode ask`: what `rhapsode ask` does, through the API server and the worker's Service."""

import argparse
from typing import Any

from rhapsode import asking
from rhapsode.kubectl.choosing import add_choice, object_name, reach, seconds
from rhapsode.kubectl.reaching import PATIENCE_S
from rhapsode.kubectl.waiting import wait_for_relay
from rhapsode.painting import Painter

EXAMPLES = """examples:
  kubectl rhapsode ask choir "Why is the sky blue?"
  kubectl rhapsode ask choir -n music --narration cute "Tell me a story" > story.txt
  git diff | kubectl rhapsode ask choir --system "Summarise this diff" -
  RHAPSODE_KEY=… kubectl rhapsode ask choir "Hello?"     where spec.auth asks for a key"""


def add_parser(commands: Any) -> None:
    """Add `ask` to the commands."""
    parser = commands.add_parser(
        "ask",
        help="ask a worker: tokens to stdout, narration to stderr",
        description="Ask a worker of the cluster. Tokens go to standard output and narration to standard error. While"
        " it has no pod, it is told why. A connection that breaks is resumed, on whatever pod is there then; the"
        " text's sha256 is checked.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", type=object_name, metavar="NAME", help="the InferenceWorker")
    parser.add_argument("text", metavar="TEXT", help=asking.TEXT_HELP)
    add_choice(parser)
    asking.add_wishes(parser)
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help="give up if no pod answers within S seconds (default: wait)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    body = asking.body_of(args, asking.text_of(args))
    painter = Painter(args.narration or "human")
    with reach(args) as cluster, cluster.relay(args.name) as client:
        wait_for_relay(cluster, args.name, client, painter, args.timeout)
        painter.style = args.narration or asking.style_of(client)
        return asking.Asking(client, painter, patience_s=PATIENCE_S).ask(body)

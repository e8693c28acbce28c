"""Which cluster and namespace: the options that every command has. Called by the commands of `kubectl rhapsode`."""

import argparse
import contextlib
import math
import re
from collections.abc import Iterator

from rhapsode.kubectl.proxying import KubectlProxy
from rhapsode.kubectl.reaching import Cluster

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def object_name(text: str) -> str:
    """Return the name of an object. ArgumentTypeError for what could be no name, but a path of its own."""
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a name: lower-case letters, digits, hyphens and dots")
    return text


def seconds(text: str) -> float:
    """Return a number of seconds that ends."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that kubectl has too."""
    parser.add_argument(
        "-n", "--namespace", type=object_name, metavar="NS", help="the namespace (default: the context's)"
    )
    parser.add_argument("--context", metavar="NAME", help="the context of the kubeconfig")
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="the kubeconfig (default: $KUBECONFIG or ~/.kube/config)"
    )


@contextlib.contextmanager
def reach(args: argparse.Namespace, *, everywhere: bool = False) -> Iterator[Cluster]:
    """Reach the chosen namespace, or all. Raises CommandError."""
    given = {"kubeconfig": args.kubeconfig, "context": args.context}
    flags = [f"--{name}={value}" for name, value in given.items() if value]
    with KubectlProxy(flags) as proxy:
        namespace = "" if everywhere else args.namespace or proxy.default_namespace()
        told = [*flags, *([f"-n {args.namespace}"] if args.namespace and not everywhere else [])]
        cluster = Cluster(proxy, namespace, "".join(f" {flag}" for flag in told))
        try:
            yield cluster
        finally:
            cluster.close()

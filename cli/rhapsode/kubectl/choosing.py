"""Which cluster and namespace: the options that every command has. Called by the commands of `kubectl rhapsode`."""

import argparse
import contextlib
from collections.abc import Iterator

from rhapsode.kubectl.proxying import KubectlProxy
from rhapsode.kubectl.reaching import Cluster


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that kubectl has too."""
    parser.add_argument("-n", "--namespace", metavar="NS", help="the namespace (default: the context's)")
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

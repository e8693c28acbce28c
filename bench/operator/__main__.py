"""`make bench-operator`: what the operator costs and how fast it is, on a real API server. Prints the docs' table.

The API server, etcd, the hollow nodes and the bench itself share the machine with the operator: CPU and memory are of
the operator's process alone, seconds are of all of them together. `--quick` takes one round and leaves out 5,000.
"""

import argparse
import asyncio
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.operator.creating import burst, one_by_one
from bench.operator.crowding import crowd
from bench.operator.floor import floor
from bench.operator.loading import real, simulated
from bench.plans import say
from support.api_server import NoTools, find_tools

MANY, MORE = 1000, 5000
SAMPLES = 200


def creation(quick: bool) -> None:
    """Print how soon a pod follows its resource."""
    born = asyncio.run(one_by_one(SAMPLES if quick else 2 * SAMPLES))
    row("CR created → Pod created, p50 / p99", "≤ 10 ms / ≤ 50 ms", f"{born.pod.p50:.1f} ms / {born.pod.p99:.1f} ms")
    row("… → status tells of it, p50 / p99", "", f"{born.status.p50:.1f} ms / {born.status.p99:.1f} ms")


def bursts(quick: bool) -> None:
    """Print what many at once take, in turn with a bare loop that makes the same objects."""
    for count, wanted, rounds in ((MANY, "≤ 10 s, 0 errors", 1 if quick else 3), (MORE, "5 ×", 0 if quick else 1)):
        if rounds:
            _burst(count, wanted, rounds)


def _burst(count: int, wanted: str, rounds: int) -> None:
    found = [(asyncio.run(burst(count)), asyncio.run(floor(count))) for _ in range(rounds)]
    errors = sum(ours.errors for ours, _ in found)
    ours, bare = sorted(found, key=lambda pair: pair[0].told)[rounds // 2]
    row(f"burst of {count:,} CRs → pods, Services and status", wanted, f"{ours.told:.1f} s, {errors:.0f} errors")
    row("… pods; Services", "", f"{ours.pods:.1f} s; {ours.services:.1f} s")
    row("… the same objects made by a bare loop", "", f"{bare.done:.1f} s: {ours.told / bare.done:.2f} ×")
    shares = f"{ours.cpu.operator:.1f} s; {ours.cpu.cluster:.1f} s; {ours.cpu.bench:.1f} s"
    row("… CPU of the operator; API server and etcd; bench", "", shares)
    row(
        "… CPU with the bare loop: API server and etcd; loop", "", f"{bare.cluster_cpu:.1f} s; {bare.bench_cpu:.1f} s"
    )
    row("… requests of the operator; its RSS at the end", "", f"{ours.requests:,.0f}; {ours.rss:.0f} MiB")


def crowds(quick: bool) -> None:
    """Print what a thousand that run cost."""
    found = asyncio.run(crowd(MANY, 20 if quick else 60, SAMPLES))
    phase = f"p50 {found.phase.p50:.0f} ms, p99 {found.phase.p99:.0f} ms"
    row("phase change in a worker → in CR status", "p99 ≤ 1 s", phase)
    row("RSS, idle", "≤ 80 MiB", f"{found.idle_mib:.0f} MiB")
    row(f"RSS, {MANY:,} CRs and {found.streams:,} streams", "≤ 200 MiB", f"{found.mib:.0f} MiB")
    row("… after a restart", "≤ 200 MiB", f"{found.restarted_mib:.0f} MiB")
    row(f"idle CPU, {MANY:,} CRs and streams", "≤ 3 % of a core", f"{found.cpu:.1%}")
    row(f"start → first reconcile, {MANY:,} CRs present", "≤ 3 s", f"{found.first:.1f} s")
    row("… → all reconciled", "", f"{found.all:.1f} s")
    row(f"burst of {MANY:,} → all Ready in the status", "", f"{found.ready:.1f} s, {found.errors:.0f} errors in all")


def loads(_quick: bool) -> None:
    """Print how many status writes a load costs."""
    long = asyncio.run(simulated(1200))
    parts = ", ".join(f"{count} {manager.removeprefix('rhapsode-')}" for manager, count in sorted(long.items()))
    row("status writes in a simulated 20-minute load", "≤ 25", f"{long.total()} ({parts})")
    row("status writes in a real 60-second load", "", f"{asyncio.run(real(60)):.0f}")


PARTS: dict[str, Callable[[bool], None]] = {
    "creation": creation, "burst": bursts, "crowd": crowds, "load": loads,
}  # fmt: skip


def row(measure: str, wanted: str, reached: str) -> None:
    say(f"| {measure} | {wanted} | {reached} |")


def machine() -> str:
    """Return what this ran on: ratios travel between machines, figures do not."""
    infos = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in infos if line.startswith("model name")), "unknown CPU")
    server = subprocess.run(
        [find_tools() / "kube-apiserver", "--version"], capture_output=True, text=True, check=True
    )
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("kopf", "kubernetes", "aiohttp", "uvloop")]
    where = f"{os.cpu_count()} cores of {model}", f"Python {platform.python_version()}", server.stdout.strip()
    return ", ".join([*where, *versions])


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.operator", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, shorter windows, no burst of 5,000")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"parts: {', '.join(PARTS)}; all by default")
    args = parser.parse_args()
    if unknown := set(args.names) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    try:
        say(machine())
    except NoTools as exc:
        sys.exit(f"bench.operator: {exc}")
    say("\n| measure | to reach | reached |\n|---|---|---|")
    for name, part in PARTS.items():
        if not args.names or name in args.names:
            part(args.quick)


if __name__ == "__main__":
    main()

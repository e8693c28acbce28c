"""`make bench`: our relay beside the proxies that people use, in the same run. Prints what docs/performance.md shows.

Each proxy has one core and one worker; source and client share the other core. Medians of several rounds, taken
in turn. `ARGS=--quick` takes one round of each; `ARGS="--only streams"` takes a part.
"""

import argparse
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable

from bench import holding, peers
from bench.plans import Plan, say
from bench.running import Figures, OpenPeer, compare

BURSTS = Plan(4, 50_000, 0, 100)
ONE_BY_ONE = Plan(4, 50_000)
FIFTY, FIVE_HUNDRED, THOUSAND = Plan(50, 500, 50), Plan(500, 200, 20), Plan(1000, 200, 20)


def throughput(rounds: int) -> None:
    """Print how many events a second pass."""
    for title, plan in (("in bursts of 100", BURSTS), ("one at a time", ONE_BY_ONE)):
        say(f"\n4 streams × 50,000 tokens, {title}\n\n| | events/s | to nginx | CPU s/M |\n|---|---|---|---|")
        found = compare(peers.installed(), plan, rounds)
        nginx = of_nginx(found)
        for one in found:
            to_nginx = ratio(one.events_s, nginx and nginx.events_s)
            say(f"| {one.name} | {one.events_s:,.0f} | {to_nginx} | {one.cpu:.2f} |")


def latency(rounds: int) -> None:
    """Print what streams at a steady rate feel and cost."""
    direct: OpenPeer = peers.direct
    for plan in (FIFTY, FIVE_HUNDRED, THOUSAND):
        say(f"\n{plan.streams} streams × {plan.rate:.0f} tok/s, {plan.tokens} tokens each\n")
        say("| | missing | p50 ms | added p50 | p99 ms | p99 to nginx | CPU s/M | to nginx |\n|" + "---|" * 8)
        found = compare([direct, *peers.installed()], plan, rounds)
        for one in found:
            say(latency_row(one, found))


def latency_row(one: Figures, found: list[Figures]) -> str:
    nginx = of_nginx(found)
    return (
        f"| {one.name} | {one.missing} | {one.p50:.3f} | {one.p50 - found[0].p50:+.3f} | {one.p99:.2f} "
        f"| {ratio(one.p99, nginx and nginx.p99)} | {one.cpu:.1f} | {ratio(one.cpu, nginx and nginx.cpu)} |"
    )


def of_nginx(found: list[Figures]) -> Figures | None:
    """Return nginx' figures, if it is here."""
    return next((one for one in found if one.name == "nginx"), None)


def small_things(_rounds: int) -> None:
    """Print memory and the delays of single events."""
    say("\n| measure | figure |\n|---|---|")
    p50, p99 = holding.narration()
    say(f"| narration, worker → reader, idle | p50 {p50:.2f} ms, p99 {p99:.2f} ms |")
    p50, worst = holding.gone()
    say(f"| client gone → engine told | p50 {p50:.2f} ms, worst of 50 {worst:.2f} ms |")
    say(f"| start of a worker → its first words | {holding.first_words():.2f} s |")
    idle, busy = holding.memory()
    say(f"| RSS: idle; 1,000 readers | {idle:.0f} MiB; {busy:.0f} MiB |")
    seen = holding.frozen()
    line = " ".join(f"{mib:.0f}" for mib in seen)
    say(f"| RSS every 5 s, one reader frozen, 15,000 tok/s | {line} MiB |")


def real_model(rounds: int) -> None:
    """Print what worker and relay cost a real model."""
    from bench.modelling import model

    direct, through = model(rounds * 4)
    say("\nSmolLM2-135M on OpenVINO, 128 tokens, greedy\n\n| | tok/s | TTFT ms |\n|---|---|---|")
    say(f"| called directly | {direct.tok_s:.1f} | {direct.ttft_ms:.1f} |")
    say(f"| through worker and relay | {through.tok_s:.1f} | {through.ttft_ms:.1f} |")
    say(f"| | {through.tok_s / direct.tok_s:.1%} | {through.ttft_ms - direct.ttft_ms:+.1f} |")


def two_phases(rounds: int) -> None:
    """Print what a turn costs beside the model, the sinks and the text."""
    from bench.turns import costing

    say("\nTurns of examples/dungeon-master: five calls, four of them writes; model and sinks answer at once\n")
    say(
        "| at once | unfinished | p50 ms | p99 ms | without the calls: p50 | p99 | CPU ms | turns/s |\n|" + "---|" * 8
    )
    for at_once, one in costing.time_of_turns(rounds * 4).items():
        say(
            f"| {at_once} | {one.unfinished} | {one.p50:.2f} | {one.p99:.2f} | {one.own_p50:.2f} | {one.own_p99:.2f} "
            f"| {one.cpu:.2f} | {one.turns_s:.0f} |"
        )
    say("\n| memory of a turn, beside its text | KiB | with who reads it |\n|---|---|---|")
    for hold in ("narrative", "intents", "sinks"):
        alone, read = (costing.memory_of_running(hold, read=read) for read in (False, True))
        say(f"| that waits for its {hold} | {alone:.1f} | {read:.1f} |")
    say(f"| that is over and kept | {costing.memory_of_kept():.1f} | |")


PARTS: dict[str, Callable[[int], None]] = {
    "throughput": throughput,
    "streams": latency,
    "small": small_things,
    "turns": two_phases,
    "model": real_model,
}


def ratio(value: float, base: float | None) -> str:
    return f"{value / base:.2f} ×" if base else "–"


def machine() -> str:
    """Return what this ran on: ratios travel between machines, figures do not."""
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in ("uvicorn", "uvloop", "msgspec")]
    for name, flag in (("nginx", "-v"), ("haproxy", "-v")):
        if shutil.which(name):
            said = subprocess.run([name, flag], capture_output=True, text=True, check=False)
            versions.append((said.stdout + said.stderr).splitlines()[0].removeprefix("nginx version: "))
        else:
            versions.append(f"{name} is not installed")
    return ", ".join(versions)


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of each")
    parser.add_argument("--only", choices=sorted(PARTS), help="one part")
    args = parser.parse_args()
    if not shutil.which("taskset") or (os.cpu_count() or 1) < 2:
        sys.exit("bench: needs taskset and two cores")
    say(machine())
    for name, part in PARTS.items():
        if args.only in (None, name):
            part(1 if args.quick else 3)


if __name__ == "__main__":
    main()

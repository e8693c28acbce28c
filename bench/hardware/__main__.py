"""`make hardware`: our NVML sampler on this machine's GPU while a known allocation grows, shrinks and is killed.

Needs the NVIDIA driver alone. Prints the report and stores it as docs/hardware/DATE-GPU.md and .json, or under --out.
Exit 0: all checks passed. 1: one failed, the report says which. 2: nothing could be measured, nothing is written.
"""

import argparse
import datetime as dt
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec

from bench.hardware import children, measuring, storing
from bench.hardware.hearing import Heard, Hearing
from bench.hardware.judging import judge
from bench.hardware.measuring import Measuring, NotMeasurable, Plan
from bench.hardware.records import MIB, TOLERANCE, Facts, Found, Report
from bench.hardware.telling import page

ROOT = Path(__file__).parents[2]
_SIZES = {"MiB": MIB, "GiB": 1024 * MIB}
NO_MOCK = (
    "the NVML library here is not the driver's own: it opened no device of the kernel's driver. What it tells must "
    "not stand among the reports of hardware; use --out FOLDER."
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.hardware", description=__doc__)
    parser.add_argument("--gpu", type=_number, default=0, help="which one, in NVML's order (0)")
    parser.add_argument("--step", type=_size, default="1GiB", help="how much is taken at once, at most (1GiB)")
    parser.add_argument(
        "--steps", type=_count, default=8, help="how often (8); all of it at most 60 %% of what is free"
    )
    parser.add_argument("--hold", type=_seconds, default=5.0, help="seconds that all of it is held (5)")
    parser.add_argument(
        "--limit", type=_seconds, default=10.0, help="seconds within which a change must be told (10)"
    )
    parser.add_argument(
        "--call-limit", type=_seconds, default=60.0, help="seconds that a call of the driver may take"
    )
    parser.add_argument(
        "--every", type=_seconds, help="ask for samples so often (s); without: the sampler's own pace"
    )
    parser.add_argument("--out", type=Path, default=storing.FOLDER, metavar="FOLDER", help="where the report goes")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    try:
        found = find(args.gpu, args.call_limit)
        assert found.facts is not None
        refuse_mock(found.facts, args.out)
        report = measure(args, found.uuid, found.facts)
    except NotMeasurable as exc:
        sys.stderr.write(f"hardware: {exc}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("hardware: stopped; the memory is given back, nothing is written\n")
        return 130
    return deliver(report, args.out)


def find(gpu: int, limit_s: float) -> Found:
    """Return what there is to measure."""
    try:
        found = msgspec.json.decode(children.told("finding", str(gpu), limit_s=limit_s), type=Found)
    except children.ChildFailed as exc:
        raise NotMeasurable(f"NVML cannot be used here: {exc}. See that nvidia-smi works.") from exc
    if found.refusal:
        raise NotMeasurable(found.refusal)
    return found


def refuse_mock(facts: Facts, folder: Path) -> None:
    """Let nothing that a mock tells among the reports of hardware."""
    if not facts.drivers_own and storing.is_among_documents(folder):
        raise NotMeasurable(NO_MOCK)


def measure(args: argparse.Namespace, uuid: str, facts: Facts) -> Report:
    """Return the report of all rounds."""
    hearing = Hearing(uuid, args.every)
    hearing.start()
    try:
        quiet = measuring.listen_for_quiet(hearing)
        plan = Plan(_fitting(args, quiet), args.steps, args.hold, args.limit, args.call_limit)
        work = Measuring(uuid, plan, hearing, say)
        rounds = work.rounds(quiet.used)
    finally:
        hearing.stop()
    shield = ask_shield(args.call_limit)
    return Report(
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        version=tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        commit=commit(),
        gpu=quiet.sight.name,
        facts=facts,
        cuda=work.cuda,
        step_bytes=plan.step_bytes,
        step_count=plan.steps,
        tolerance_bytes=TOLERANCE,
        limit_s=plan.limit_s,
        sampled_every=f"asked every {args.every:g} s" if args.every else "its own, as in a worker",
        base_bytes=quiet.used,
        longest_gap_s=hearing.longest_gap_s(),
        rounds=rounds,
        held=work.held,
        conf_compute=shield[1],
        troubles=hearing.troubles,
        checks=judge(rounds, plan.steps, work.held, hearing.troubles, shield),
    )


def ask_shield(limit_s: float) -> tuple[bool, str]:
    """Return whether our way to make the dangerous call is harmless, and what came of it."""
    try:
        return True, children.told("shielding", limit_s=limit_s)
    except children.ChildFailed as exc:
        return False, str(exc)


def deliver(report: Report, folder: Path) -> int:
    """Print the report and store it."""
    sys.stdout.write(page(report))
    sys.stdout.flush()
    try:
        path = storing.store(report, folder)
        if storing.is_among_documents(folder):
            storing.README.write_text(storing.with_list(storing.README.read_text(), storing.FOLDER))
    except OSError as exc:
        sys.stderr.write(f"hardware: the report is not stored in {folder}: {exc}. It stands on standard output.\n")
        return 2
    say(f"stored: {path}")
    return 0 if report.passed else 1


def commit() -> str:
    """Return the commit that was measured, and whether the files were others."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def say(text: str) -> None:
    sys.stderr.write(f"· {text}\n")
    sys.stderr.flush()


def _fitting(args: argparse.Namespace, quiet: Heard) -> int:
    sight = quiet.sight
    free = (sight.total_bytes or 0) - quiet.used - (sight.reserved_bytes or 0)
    return measuring.fit(free, args.step, args.steps)


def _size(text: str) -> int:
    if not (found := re.fullmatch(r"(\d{1,6})(MiB|GiB)", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 512MiB or 1GiB")
    return int(found[1]) * _SIZES[found[2]]


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


def _count(text: str) -> int:
    if not 1 <= _number(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r}: choose 1 to 64 steps")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d{1,4}(\.\d+)?", text) or not float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return float(text)


if __name__ == "__main__":
    sys.exit(main())

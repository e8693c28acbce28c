"""Check, while an image is built, that it holds its own packages and the contract, and whether they can be imported.

Called by the Dockerfiles: `python check_image.py PACKAGE … [--but MODULE_PREFIX …] [--run COMMAND …]`. Prints the
modules that it imported, or exits with a message that names what is too much or missing. `--but` names engines whose
packages are not in this image, `--run` a command that must be there and tell its help.
"""

import argparse
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

APP = Path("/app")


def main() -> str | None:
    """Return what is wrong, or None."""
    parser = argparse.ArgumentParser()
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--but", nargs="+", default=[])
    parser.add_argument("--run", nargs="+", default=[])
    args = parser.parse_args()
    found = {path.name for path in APP.iterdir()}
    if found != set(args.packages):
        return f"{APP} holds {sorted(found)}, wanted {sorted(args.packages)}"
    for package in args.packages:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__") and not module.name.startswith(tuple(args.but)):
                importlib.import_module(module.name)
                sys.stdout.write(f"{module.name}\n")
    return _missing(args.run) if args.run else None


def _missing(command: list[str]) -> str | None:
    """Return why a command does not tell its help, or None."""
    try:
        done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    except OSError as exc:
        return f"{' '.join(command)} cannot be started: {exc.strerror}"
    return None if done.returncode == 0 else f"{' '.join(command)} --help fails: {done.stderr.strip()[-300:]}"


if __name__ == "__main__":
    sys.exit(main())

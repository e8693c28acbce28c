"""Check, while an image is built, that it holds its own packages and the contract, and whether they can be imported.

Called by the Dockerfiles: `python check_image.py PACKAGE … [--but MODULE_PREFIX …]`. Prints the modules that it
imported, or exits with a message that names what is too much or missing. `--but` names engines whose
packages are not in this image.
"""

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

APP = Path("/app")


def main() -> str | None:
    """Return what is wrong, or None."""
    parser = argparse.ArgumentParser()
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--but", nargs="+", default=[])
    args = parser.parse_args()
    found = {path.name for path in APP.iterdir()}
    if found != set(args.packages):
        return f"{APP} holds {sorted(found)}, wanted {sorted(args.packages)}"
    for package in args.packages:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__") and not module.name.startswith(tuple(args.but)):
                importlib.import_module(module.name)
                sys.stdout.write(f"{module.name}\n")
    return None


if __name__ == "__main__":
    sys.exit(main())

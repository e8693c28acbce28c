"""What the operator costs and how fast it is: `python -m bench.operator`, on a real API server."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))  # the API server of the tests is ours, too

"""Settings of a relay that no manifest has: how long it waits where a machine that stands still must not decide."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent / "relay_settings"
PEER_SLACK = 20.0
"""With it, replicas wait twenty seconds for what usually comes within one."""


def patient(**settings: float) -> dict[str, str]:
    """Return the environment of a relay with other `RelaySettings` than it would have."""
    return {"PYTHONPATH": str(FOLDER), "RHAPSODE_TEST_SETTINGS": json.dumps(settings)}

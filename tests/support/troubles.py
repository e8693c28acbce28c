"""What a person is told of a trouble: the condition with its remedy, and a Warning only where a person must act."""

from typing import Any

from rhapsode_contract.conditions import REASONS
from support.operators import PATIENCE_S, Cluster

JSON = dict[str, Any]


def _of(status: JSON, kind: str) -> JSON:
    """Return a condition of one status: a second look may find a newer one."""
    return next((one for one in status.get("conditions") or () if one["type"] == kind), {})


def assert_told(cluster: Cluster, name: str, reason: str, *words: str, seconds: float = PATIENCE_S) -> JSON:
    """Wait until a resource tells of a trouble; check that it tells all that belongs to it, and return its Ready."""
    status = cluster.wait_status(
        name, f"Ready is {reason}", lambda status: _of(status, "Ready").get("reason") == reason, seconds
    )
    ready, stalled, busy = (_of(status, kind) for kind in ("Ready", "Stalled", "Reconciling"))
    assert ready["status"] == "False"
    for said in (*words, REASONS[reason].remedy.rstrip(".")):
        assert said in ready["message"], ready["message"]
    stalls = REASONS[reason].stalls
    assert (stalled["status"] == "True", busy["status"] == "True") == (stalls, not stalls)
    if stalls:
        assert (stalled["reason"], stalled["message"]) == (reason, ready["message"])
        cluster.wait_event(name, reason)
    return ready


def assert_mended(cluster: Cluster, name: str, *reasons: str, seconds: float = PATIENCE_S) -> None:
    """Wait until it serves again; every one of the reasons was a Warning once, and nothing else was."""
    cluster.wait_ready(name, seconds)
    assert cluster.condition("Stalled", name)["status"] == "False"
    assert sorted(cluster.warnings(name)) == sorted(reason for reason in reasons if REASONS[reason].stalls)

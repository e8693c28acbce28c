"""Wait for a worker's relay, and tell what the operator says meanwhile. Called by `asking`."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from rhapsode.errors import EXIT_FAILED, EXIT_TRY_LATER, CommandError
from rhapsode.kubectl.advising import RESUME, SCALE
from rhapsode.kubectl.carrying import NotThereError
from rhapsode.kubectl.reaching import Cluster
from rhapsode.painting import Painter
from rhapsode.streaming import RelayClient, Unreachable
from rhapsode_contract.wording import clean

JSON = Mapping[str, Any]
PAUSE_S = 0.5
LINE = 1000
"""Longest line of what a cluster says."""


def wait_for_relay(
    cluster: Cluster, name: str, client: RelayClient, painter: Painter, timeout_s: float | None
) -> None:
    """Return when a pod's relay answers. Raises CommandError when none will, or when it takes too long."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    told: set[str] = set()
    while why := _why_not(client):
        for level, line in tell(cluster.worker(name), cluster.flags):
            if line not in told and painter.style != "off":
                painter.line(line, actor="operator", level=level)
            told.add(line)
        if deadline is not None and time.monotonic() + PAUSE_S > deadline:
            raise CommandError(f"{name}: {why}, after {timeout_s:.0f} s", EXIT_TRY_LATER)
        time.sleep(PAUSE_S)


def _why_not(client: RelayClient) -> str:
    """Return why no relay answers, "" if one does."""
    try:
        client.get("/v1/worker")
    except (Unreachable, NotThereError) as exc:
        return str(exc)
    except httpx.TransportError as exc:
        return clean(str(exc)) or "the connection broke"
    return ""


def tell(worker: JSON, flags: str = "") -> Iterator[tuple[str, str]]:
    """Yield level and line of what an operator says of a worker that nobody can ask yet. CommandError: never."""
    name, spec, status = worker["metadata"]["name"], worker.get("spec") or {}, worker.get("status") or {}
    if spec.get("suspend"):
        resume = RESUME.format(name=name, flags=flags)
        raise CommandError(f"{name} is suspended: resume it with {resume}", EXIT_FAILED)
    if spec.get("replicas") == 0:
        raise CommandError(f"{name} has no pods: {SCALE.format(name=name, flags=flags)}", EXIT_FAILED)
    if not status.get("conditions"):
        yield "warn", f"{name}: no operator has looked at it yet; is rhapsode-operator running?"
        return
    ready: JSON = next((one for one in status["conditions"] if one["type"] == "Ready"), {})
    stalled = any(one["type"] == "Stalled" and one["status"] == "True" for one in status["conditions"])
    said = f"{status.get('phase', '')}: {ready.get('reason', '')}: {ready.get('message', '')}"
    yield "error" if stalled else "info", clean(f"{name} is {said}", limit=LINE)
    if stalled:
        why = f"kubectl rhapsode explain {name}{flags}"
        yield "error", f"{name} is stalled: nothing will change until a person acts ({why}); waiting, Ctrl-C ends it"
    if load := (status.get("load") or {}).get("summary"):
        yield "info", clean(str(load))
    if narration := (status.get("narration") or {}).get("text"):
        yield "info", clean(str(narration))

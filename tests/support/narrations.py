"""Speak to a relay's worker socket as some process of the pod, and hear what is told of the worker."""

import socket
from pathlib import Path
from typing import Any

from support.processes import Relay, wait_until
from support.streams import Stream


def narrations(relay: Relay) -> list[dict[str, Any]]:
    """Return all narrations of the worker's stream so far."""
    with Stream(relay.port, "/v1/worker/stream") as stream:
        head = stream.next("worker").data
        last = relay.get("/v1/worker").json()["seq"]
        told: list[dict[str, Any]] = []
        if last <= head["seq"]:
            return told
        for event in stream.events():
            if event.name == "narration":
                told.append(event.data)
            if event.data["seq"] >= last:
                return told
    return told


def said(relay: Relay, human: str) -> dict[str, Any]:
    """Return the narration with these words, once it is there."""

    def found() -> dict[str, Any] | None:
        return next((told for told in narrations(relay) if told["human"] == human), None)

    told: dict[str, Any] = wait_until(found, f"{human!r} is told")
    return told


def shout(path: Path, data: bytes) -> None:
    """Send bytes as some process of the pod would."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(data)

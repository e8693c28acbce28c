"""The turn that is measured: the example's contract, what a model answers to it, and what a client sends."""

import json
from pathlib import Path
from typing import Any

import yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "dungeon-master" / "worker.yaml"
LIMIT = 1000
"""Turns at once; more than are held to see what each takes."""
NARRATIVE = ["Mira ", "walks ", "along ", "the ", "dark ", "river ", "until ", "a bell ", "rings. ", "🔔 "] * 10
"""A hundred tokens, as the example allows."""
INTENTS: dict[str, Any] = {
    "location": {"name": "The Old Mill"},
    "quest": {"action": "create", "title": " ", "description": "Find the bell that the river took."},
    "combat": {"action": "create", "enemies": ["wolf", "miller's ghost"], "description": "They wait at the wheel."},
    "poi": {"action": "create", "name": "", "description": "A door of moss, half under water."},
}
"""Three fields are for normalize to fill: a title, a name from another field, and a list that is missing."""
INPUTS = {"session": "bench", "hero": "Mira", "place": "the old mill", "event": "two wolves attack her"}
REQUEST = {
    "contract": "dungeon-master",
    "inputs": INPUTS,
    "policy": {"quest": True, "combat": True, "poi": True},
    "context": {"sparks": {"count": 2}},
}
CALLS = 5
"""Of one turn, to the outside: one source of context and four sinks."""


def write_game(folder: Path, journal: int) -> Path:
    """Write the example's manifest with its journal at a port; return its path."""
    text = EXAMPLE.read_text().replace("http://journal/", f"http://127.0.0.1:{journal}/")
    manifest: dict[str, Any] = yaml.safe_load(text)
    manifest["spec"]["relay"] = {"turnLimit": LIMIT, "queueLimit": LIMIT, "drainSeconds": 0}
    manifest["spec"]["outcomes"][0]["limits"] = {"narrativeSeconds": 600, "intentsSeconds": 600, "turnSeconds": 600}
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


def text_bytes() -> int:
    """Return the size of what a model writes for one turn."""
    return len("".join(NARRATIVE).encode()) + len(json.dumps(INTENTS))

"""Render the table of `docs/clients.md` from what the tests of SDKs measured. Called by `generate`."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "tests/sdks/results.json"
BEGIN, END = "<!-- clients -->\n", "<!-- /clients -->"
COLUMNS = {
    "plain": "plain",
    "helper": "helper",
    "narration": "narration",
    "narrated helper": "narration, helper",
    "slow": "slow start",
    "error": "failure",
    "resume": "resume",
}
HIDDEN = (
    "The text is whole, but the client hands the narration to no program: "
    "listen [apart](#agent-and-screen-apart), by a correlation id."
)
BROKEN = {
    ("openai-node, Responses", "narrated helper"): (
        "`responses.stream()` throws at every event that it does not know; iterate `create()` with `stream`, "
        "or ask for no narration."
    ),
    ("Vercel AI SDK, openai (Responses)", "error"): (
        "Its provider for AI SDK 5 passes over `response.failed`: the text just ends, with the finish reason "
        "`unknown`. Use the openai-compatible provider, or AI SDK 7."
    ),
}
"""What a client itself cannot do, which a test holds it to."""


def with_clients(page: str) -> str:
    """Return the page with the table of what was measured."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{_table(json.loads(RESULTS.read_text()))}\n{END}{tail}"


def _table(rows: list[dict[str, Any]]) -> str:
    notes: list[str] = []
    lines = ["| client | version | " + " | ".join(COLUMNS.values()) + " |", "|---|---|" + ":-:|" * len(COLUMNS)]
    for row in rows:
        cells = [_cell(row["client"], name, row["cells"].get(name), notes) for name in COLUMNS]
        lines.append(f"| {row['client']} | {row['version']} | {' | '.join(cells)} |")
    told = [f"{at}. {note}" for at, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", "✓ as it should be · ✗ not · – there is no such thing", "", *told]) + "\n"


def _cell(client: str, situation: str, verdict: str | None, notes: list[str]) -> str:
    if verdict is None:
        return "–"
    if verdict == "yes":
        return "✓"
    note = HIDDEN if verdict == "hidden" else BROKEN[client, situation]
    if note not in notes:
        notes.append(note)
    return f"{'✓' if verdict == 'hidden' else '✗'} ({notes.index(note) + 1})"

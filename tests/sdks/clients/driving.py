"""What the drivers in Python have in common: they go through the situations and tell what they saw, a JSON line each.

A situation is a generator of the text that its client gives; narrations that reach its program go into `heard`. It
runs in the client's own environment, which has nothing of ours. Started by `support.sdks`.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

Situation = Callable[[str, list[str]], Iterator[str]]
Row = dict[str, Situation]
TEXT = "Sing"
MESSAGES = [{"role": "user", "content": TEXT}]
TOKENS = 24
MANY_TOKENS = 200
"""For a text that is left in its middle, and come back to."""
WHERE = {"error": "RHAPSODE_BROKEN_URL", "resume": "RHAPSODE_CUT_URL"}
"""Where a situation goes, if not to a worker that is ready."""


def drive(version: str, rows: dict[str, Row]) -> None:
    """Go through all situations; those of a worker that loads come last, all at once, when we are told where it is."""
    for client, row in rows.items():
        for name, situation in row.items():
            if name != "slow":
                url = os.environ[WHERE.get(name, "RHAPSODE_URL")]
                _tell({"client": client, "version": version, "situation": name} | _outcome(situation, url))
    _tell({"waits": True})
    url = sys.stdin.readline().strip()
    for client, outcome in _all_at_once(rows, url):
        _tell({"client": client, "version": version, "situation": "slow"} | outcome)


def _all_at_once(rows: dict[str, Row], url: str) -> Iterator[tuple[str, dict[str, object]]]:
    if len(rows) == 1:  # a browser wants to be spoken to by one thread only
        yield from ((client, _outcome(row["slow"], url)) for client, row in rows.items())
        return
    with ThreadPoolExecutor() as pool:
        outcomes = pool.map(lambda row: _outcome(row["slow"], url), rows.values())
        yield from zip(rows, outcomes, strict=True)


def agree(streamed: str, whole: str | None) -> None:
    """A text comes whole as it comes streamed."""
    if streamed != whole:
        raise AssertionError(f"whole it is {whole!r}, streamed {streamed!r}")


def _outcome(situation: Situation, url: str) -> dict[str, object]:
    text, error = "", ""
    heard: list[str] = []
    try:
        for piece in situation(url, heard):
            text += piece
    except Exception as exc:
        error = f"{type(exc).__name__}: {exc}"
    return {"text": text, "error": error[:500], "heard": heard}


def _tell(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()

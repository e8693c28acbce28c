"""Fetch what a turn's client wanted as context. Called by `running`.

All sources are asked at once, each within its own time and all within the phase's. Why one gave nothing is told to
the caller, who knows whether the turn can do without it.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rhapsode_contract.outcomes import ContextSource
from rhapsode_relay.turns.pointers import find
from rhapsode_relay.turns.reaching import Errand, Outside, Unanswered
from rhapsode_relay.turns.secret_files import NoSecret, header_of

Fetched = list[Any] | str
"""The items of a source, or why there are none."""


class Question(NamedTuple):
    """One source, how many items are wanted of it, and what the turn says of itself."""

    source: ContextSource
    wanted: int
    headers: Mapping[str, str]


async def fetch_all(
    outside: Outside, secrets: Path | None, questions: list[Question], within_s: float
) -> dict[str, Fetched]:
    """Return what each source gave."""
    if not questions:
        return {}
    await outside.prepare()
    tasks = {one.source.name: asyncio.create_task(_fetch(outside, secrets, one)) for one in questions}
    try:
        await asyncio.wait(tasks.values(), timeout=max(0.0, within_s))
        late = f"no answer within {within_s:g} s"
        return {name: task.result() if task.done() else late for name, task in tasks.items()}
    finally:
        for task in tasks.values():
            task.cancel()


async def _fetch(outside: Outside, secrets: Path | None, one: Question) -> Fetched:
    source = one.source
    try:
        reply = await outside.call(_errand(one, header_of(secrets, source.secret_header)))
    except (Unanswered, NoSecret) as exc:
        return str(exc)
    if not 200 <= reply.status < 300:
        return f"it answered {reply.status}"
    if reply.body is None:
        return "its answer is too long, or broke off"
    return _items(source, reply.body, one.wanted)


def _errand(one: Question, secret: dict[str, str]) -> Errand:
    source, asked = one.source, {one.source.count_parameter: one.wanted}
    headers = {"Accept": "application/json", **one.headers, **secret}
    if source.method == "GET":
        query = {name: str(count) for name, count in asked.items()}
        return Errand(method="GET", url=source.url, within_s=source.timeout_seconds, query=query, headers=headers)
    headers["Content-Type"] = "application/json"
    body = msgspec.json.encode(asked)
    return Errand(method="POST", url=source.url, within_s=source.timeout_seconds, headers=headers, body=body)


def _items(source: ContextSource, body: bytes, count: int) -> Fetched:
    try:
        found = find(msgspec.json.decode(body), source.items)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "its answer is not JSON"
    return found[:count] if isinstance(found, list) else f"its answer has no list at '{source.items or '/'}'"

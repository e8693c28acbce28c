"""Write an outcome to the sinks of its contract, in their order, each at most once. Called by `running`."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rhapsode_contract.outcomes import Sink
from rhapsode_contract.results import Write, WriteStatus
from rhapsode_relay.turns.composing import NothingToWrite, call_key, compose
from rhapsode_relay.turns.gating import closed
from rhapsode_relay.turns.reaching import Errand, Outside, Unanswered
from rhapsode_relay.turns.secret_files import NoSecret, header_of

_LEAST_S = 0.01
"""Less is no time to call anybody in. uvloop's timers may be a millisecond early: a time that is over leaves some."""


class Letter(NamedTuple):
    """What a turn writes, and under which names."""

    outcome: dict[str, Any]
    inputs: dict[str, Any]
    policy: dict[str, Any]
    contract: str
    key: str
    """The client's Idempotency-Key, else the turn's id."""
    headers: dict[str, str]
    dry_run: bool


class Writer:
    """Writes the outcomes of one relay."""

    def __init__(self, outside: Outside, secrets: Path | None) -> None:
        self._outside = outside
        self._secrets = secrets

    async def write(self, letter: Letter, sinks: list[Sink], within_s: float) -> AsyncIterator[tuple[Sink, Write]]:
        """Yield what became of each sink. Nothing is called once `within_s` is over."""
        deadline = time.monotonic() + within_s
        if sinks and not letter.dry_run:
            await self._outside.prepare()
        for sink in sinks:
            began = time.monotonic()
            status, http_status, reason = await self._write(letter, sink, deadline - began)
            ms = round((time.monotonic() - began) * 1000, 3)
            yield sink, Write(sink=sink.name, status=status, ms=ms, http_status=http_status, reason=reason)

    async def _write(self, letter: Letter, sink: Sink, left_s: float) -> tuple[WriteStatus, int | None, str]:
        if why := closed(sink.when, {"policy": letter.policy, "inputs": letter.inputs}, letter.outcome):
            return "skipped", None, why
        try:
            body = msgspec.json.encode(compose(sink, letter.outcome, letter.inputs))
        except NothingToWrite as exc:
            return "skipped", None, str(exc)
        if letter.dry_run:
            return "dry_run", None, ""
        if left_s < _LEAST_S:
            return "failed", None, "not called: the time for writing was over"
        try:
            return await self._send(letter, sink, body, min(sink.timeout_seconds, left_s))
        except (Unanswered, NoSecret) as exc:
            return "failed", None, str(exc)

    async def _send(
        self, letter: Letter, sink: Sink, body: bytes, within_s: float
    ) -> tuple[WriteStatus, int | None, str]:
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": call_key(letter.key, letter.contract, sink.name),
            **letter.headers,
            **header_of(self._secrets, sink.secret_header),
        }
        errand = Errand(method=sink.method, url=sink.url, within_s=within_s, headers=headers, body=body)
        status = (await self._outside.call(errand)).status
        if 200 <= status < 300:
            return "written", status, ""
        return "failed", status, "redirects are not followed" if 300 <= status < 400 else f"it answered {status}"

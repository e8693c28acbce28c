"""Whether the watch still tells us everything. Run by `running`; `serving` asks it.

A watch can die quietly: its connection lives, and nothing comes. kopf shows no sign of that, so we compare. Each
version of an object that the API server tells us of another way (in the answer to our own write, or in a page of a
list that `Prober` reads now and then) must also come through the watch. What it owes us for too long is a dead watch.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Protocol

from rhapsode_contract.names import KIND
from rhapsode_operator.errors import OperatorError

Named = tuple[str, str, str]
"""Kind, namespace and name."""
PROBE_S = 15.0
PAGE = 20
_log = logging.getLogger("rhapsode.operator.watch")


class Pulse:
    """What the watch has told, and what it owes. Pure: every moment is given by the caller."""

    def __init__(self) -> None:
        self._told: dict[Named, int] = {}
        self._owed: dict[Named, tuple[int, float]] = {}

    def told(self, named: Named, version: str, *, deleted: bool = False) -> None:
        """The watch told of a version."""
        number = _number(version)
        if deleted:
            self._told.pop(named, None)
            self._owed.pop(named, None)
            return
        self._told[named] = number
        if named in self._owed and number >= self._owed[named][0]:
            del self._owed[named]

    def expect(self, named: Named, version: str, now: float) -> None:
        """The API server told of a version: the watch must, too."""
        number = _number(version)
        if number > self._told.get(named, 0):
            since = self._owed[named][1] if named in self._owed else now
            self._owed[named] = (number, since)

    def excuse(self, now: float) -> None:
        """The API server does not answer, so the watch cannot either: count from now."""
        self._owed = {named: (version, now) for named, (version, _) in self._owed.items()}

    def waive(self, gone: Iterable[Named]) -> None:
        """These were deleted before the watch could tell of them."""
        for named in gone:
            self._owed.pop(named, None)

    def owed(self, now: float, seconds: float) -> list[Named]:
        """Return what is owed for longer than that."""
        return [named for named, (_, since) in self._owed.items() if now - since > seconds]

    def overdue(self, now: float) -> float:
        """Return for how long the oldest is owed."""
        return now - min((since for _, since in self._owed.values()), default=now)


class ProbedPort(Protocol):
    """What a prober reads."""

    async def list_metadata(
        self, kind: str, namespace: str, limit: int, go_on: str = ""
    ) -> tuple[list[dict[str, Any]], str]: ...

    async def read(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None: ...


class Prober:
    """Reads a page of resources every few seconds, and holds the watch to it."""

    def __init__(self, port: ProbedPort, pulse: Pulse, namespaces: tuple[str, ...]) -> None:
        self._port = port
        self._pulse = pulse
        self._namespaces = namespaces or ("",)
        self._places: dict[str, str] = {}

    async def run(self, every_s: float = PROBE_S) -> None:
        """Probe until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await self.probe()

    async def probe(self) -> None:
        """Read the next page of each namespace."""
        loop = asyncio.get_running_loop()
        try:
            for namespace in self._namespaces:
                for named, version in await self._page(namespace):
                    self._pulse.expect(named, version, loop.time())
            await self._ask_again(loop.time())
        except OperatorError as exc:
            self._places.clear()  # a continuation may have expired
            if exc.status not in (404, 410):
                self._pulse.excuse(loop.time())
                _log.warning("The watch cannot be checked: %s", exc)

    async def _page(self, namespace: str) -> list[tuple[Named, str]]:
        place = self._places.get(namespace, "")
        items, self._places[namespace] = await self._port.list_metadata(KIND, namespace, PAGE, place)
        return [(_name(item), item["resourceVersion"]) for item in items]

    async def _ask_again(self, now: float) -> None:
        """Look at what is owed: it may have been deleted before the watch came to it."""
        owed = self._pulse.owed(now, PROBE_S)[:PAGE]
        self._pulse.waive([named for named in owed if await self._port.read(*named) is None])


def _name(metadata: dict[str, Any]) -> Named:
    return KIND, metadata.get("namespace", ""), metadata["name"]


def _number(version: str) -> int:
    """Return a resource version as a number: Kubernetes has promised since 1.35 that they can be compared."""
    return int(version) if version.isdecimal() else 0

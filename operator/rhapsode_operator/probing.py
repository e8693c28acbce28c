"""Whether the watch tells us everything. Run by `running`; `serving` asks it.

kopf gives no sign of three things: that its first list is complete, that something was deleted while a watch began
anew, that a watch is dead though its connection lives. So we compare. Each version that the API server tells us
another way (in the answer to our own write, or in a list that `Prober` reads now and then) must also come through the
watch. Until the first list has come, nothing is reconciled; what is owed for too long is a dead watch; and what the
watch told of and the list lacks is gone.
"""

import asyncio
import contextlib
import logging
from typing import Protocol

from rhapsode_contract.names import KIND
from rhapsode_operator.errors import OperatorError
from rhapsode_operator.observing import POD_LABEL

Named = tuple[str, str, str]
"""Kind, namespace and name."""
Listed = tuple[str, str, str]
"""Namespace, name and resource version."""

PROBE_S = 60.0
GRACE_S = 15.0
"""How long a debt may last before we look whether the object is still there."""
LAG_S = 2.0
"""How far the watch may be behind a list: what it tells of meanwhile went unseen by nobody."""
SLICE_S = 0.1
"""In what pieces that is waited for. Where this whole process stands still, one is over and the others are not."""
SYNC_S = 60.0
"""How long the first list may take to come through the watch."""
PAGE = 500
SELECTORS = {KIND: "", "Pod": POD_LABEL}
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

    def waive(self, named: Named) -> None:
        """It was deleted before the watch could tell of it."""
        self._owed.pop(named, None)

    def version(self, named: Named) -> int | None:
        """Return the version that the watch told of last, None for what it did not tell of, or ended."""
        return self._told.get(named)

    def known(self) -> set[Named]:
        """Return what the watch told of and has not ended."""
        return set(self._told)

    def owed(self, now: float, seconds: float = -1.0) -> list[Named]:
        """Return what is owed for longer than that."""
        return [named for named, (_, since) in self._owed.items() if now - since > seconds]

    def overdue(self, now: float) -> float:
        """Return for how long the oldest is owed."""
        return now - min((since for _, since in self._owed.values()), default=now)


class ProbedPort(Protocol):
    """What a prober reads."""

    async def list_names(
        self, kind: str, namespace: str, limit: int, *, selector: str = "", go_on: str = ""
    ) -> tuple[list[Listed], str]: ...

    async def exists(self, kind: str, namespace: str, name: str) -> bool: ...


class Ghosts(Protocol):
    """Who must know what is gone."""

    def vanished(self, named: Named) -> None: ...


class Prober:
    """Reads what there is every minute, and holds the watch to it."""

    def __init__(self, port: ProbedPort, pulse: Pulse, ghosts: Ghosts, namespaces: tuple[str, ...]) -> None:
        self._port = port
        self._pulse = pulse
        self._ghosts = ghosts
        self._namespaces = namespaces or ("",)

    async def sync(self) -> None:
        """Return when the watch has told of everything there is."""
        while not await self.probe():
            await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        late = loop.time() + SYNC_S
        while owed := self._pulse.owed(loop.time()):
            if loop.time() > late:
                _log.warning("Beginning although the watch has not told of %s %s/%s yet", *owed[0])
                return
            await asyncio.sleep(0.02)
            with contextlib.suppress(OperatorError):
                await self._forgive(loop.time(), 1.0, 5)

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            await asyncio.sleep(PROBE_S)
            await self.probe()

    async def probe(self) -> bool:
        """Compare once; return whether the API server let us."""
        loop = asyncio.get_running_loop()
        known = self._pulse.known()
        try:
            for kind in SELECTORS:
                for namespace in self._namespaces:
                    known -= await self._list(kind, namespace)
            await self._bury(known)
            await self._forgive(loop.time(), GRACE_S, PAGE)
        except OperatorError as exc:
            if exc.status != 410:  # a list that went on for too long
                self._pulse.excuse(loop.time())
            _log.warning("The watch cannot be compared with a list: %s", exc)
            return False
        return True

    async def _list(self, kind: str, namespace: str) -> set[Named]:
        """Expect everything that a list shows, and return it."""
        found, go_on, loop = set[Named](), "", asyncio.get_running_loop()
        while True:
            page, go_on = await self._port.list_names(kind, namespace, PAGE, selector=SELECTORS[kind], go_on=go_on)
            for where, name, version in page:
                self._pulse.expect((kind, where, name), version, loop.time())
                found.add((kind, where, name))
            if not go_on:
                return found

    async def _bury(self, missing: set[Named]) -> None:
        """Tell of what the watch told of before the list, and the list lacks, unless the watch does meanwhile."""
        if missing & self._pulse.known():
            for _ in range(round(LAG_S / SLICE_S)):
                await asyncio.sleep(SLICE_S)
        for named in missing & self._pulse.known():
            version = self._pulse.version(named)
            # a newer one may be of a successor that was made after this answer, and told of before it
            if version is not None and not await self._port.exists(*named) and self._pulse.version(named) == version:
                self._ghosts.vanished(named)

    async def _forgive(self, now: float, grace_s: float, most: int) -> None:
        """Look at what is owed: it may have been deleted before the watch came to it."""
        for named in self._pulse.owed(now, grace_s)[:most]:
            if not await self._port.exists(*named):
                self._pulse.waive(named)


def _number(version: str) -> int:
    """Return a resource version as a number: Kubernetes has promised since 1.35 that they can be compared."""
    return int(version) if version.isdecimal() else 0

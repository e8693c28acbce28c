"""Who leads: a `coordination.k8s.io` Lease that one operator holds at a time. Run by `running`, before kopf.

Others' clocks are not trusted: a Lease is stale when *we* saw no change of it for its duration, by our monotonic
clock, so operators whose clocks differ by a minute take turns all the same. Every write carries the version that
was read; of two that reach for a free Lease one wins. A leader that cannot renew in time must end its process.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from rhapsode_operator.errors import CannotRun, OperatorError
from rhapsode_operator.settings import OperatorSettings

Lease = dict[str, Any]
_log = logging.getLogger("rhapsode.operator.lease")


class LeasePort(Protocol):
    """The one Lease, in the cluster."""

    async def read_lease(self, namespace: str, name: str) -> Lease | None:
        """Return the Lease, None if there is none."""

    async def create_lease(self, body: Lease) -> Lease | None:
        """Create it; None if somebody was faster. CannotRun if nobody can."""

    async def replace_lease(self, body: Lease) -> Lease | None:
        """Replace the version that `body` names; None if it has changed since."""


class Elector:
    """One candidate."""

    def __init__(self, port: LeasePort, settings: OperatorSettings, clock: Callable[[], float] | None = None) -> None:
        self._port = port
        self._namespace, self._name = settings.namespace, settings.lease_name
        self._identity = settings.identity
        self._lease_s, self._renew_s, self._retry_s = settings.lease_s, settings.renew_s, settings.retry_s
        self._clock = clock or asyncio.get_running_loop().time
        self._held: Lease | None = None
        self._reaching = False
        """Whether we reached for the Lease and have heard no answer: it may be ours."""
        self._leader = ""
        self._renewed_at = 0.0
        self._seen: tuple[str, float] = ("", 0.0)
        self.heard_at = self._clock()
        """When the API server last answered us: a standby is healthy while it does."""

    @property
    def leading(self) -> bool:
        """Whether nobody else can lead at this moment."""
        return self._held is not None and self._clock() - self._renewed_at < self._lease_s

    async def acquire(self) -> None:
        """Wait until we lead."""
        while not await self._tried(self.try_acquire):
            await asyncio.sleep(self._retry_s * random.uniform(0.8, 1.2))  # noqa: S311
        _log.info("%s leads", self._identity)

    async def keep(self) -> str:
        """Renew until that fails for too long; return why we lead no more."""
        while True:
            await asyncio.sleep(self._retry_s)
            if self._overdue():
                return f"the Lease {self._namespace}/{self._name} could not be renewed for {self._renew_s:g} s"
            kept = await self._tried(self.try_renew)
            if self._held is None:
                return f"the Lease {self._namespace}/{self._name} was taken by another operator"
            if not kept and self._overdue():
                return f"the Lease {self._namespace}/{self._name} could not be renewed for {self._renew_s:g} s"

    async def release(self) -> None:
        """Let another operator lead at once, if we do, or may do."""
        held, self._held = self._held, None
        if held is not None or self._reaching:
            await self._tried(lambda: self._give(held))

    async def _give(self, held: Lease | None) -> None:
        """Give the Lease away. A write that we gave up while it was under way may have made a newer version."""
        freed = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _moment()}
        if held is not None and await self._port.replace_lease(held | {"spec": held["spec"] | freed}) is not None:
            return
        found = await self._port.read_lease(self._namespace, self._name)
        if found is not None and self._is_ours(found):
            await self._port.replace_lease(found | {"spec": found["spec"] | freed})

    async def try_acquire(self) -> bool:
        """Look at the Lease once, and take it if it is free."""
        began, lease = self._clock(), await self._port.read_lease(self._namespace, self._name)
        if lease is None:
            return await self._reach(self._port.create_lease(self._new()), began)
        if not self._is_free(lease):
            self._stand_by(lease["spec"]["holderIdentity"])
            return False
        return await self._reach(self._port.replace_lease(lease | {"spec": self._claim(lease)}), began)

    async def _reach(self, write: Awaitable[Lease | None], began: float) -> bool:
        self._reaching = True
        lease = await write
        self._reaching = False
        return self._hold(lease, began)

    async def try_renew(self) -> bool:
        """Renew once; `_held` is None afterwards if somebody else took the Lease."""
        assert self._held is not None
        began, held = self._clock(), self._held
        renewed = await self._port.replace_lease(held | {"spec": held["spec"] | {"renewTime": _moment()}})
        if renewed is not None:
            return self._hold(renewed, began)
        found = await self._port.read_lease(self._namespace, self._name)
        if found is None:  # somebody deleted it
            return self._hold(await self._port.create_lease(self._new()), began)
        self._held = found if self._is_ours(found) else None
        return False

    def _is_ours(self, lease: Lease) -> bool:
        return bool(lease.get("spec", {}).get("holderIdentity") == self._identity)

    def _stand_by(self, leader: str) -> None:
        """Say so once for each leader: who reads the log of an idle process must learn where the work is done."""
        if leader != self._leader:
            self._leader = leader
            _log.info("%s stands by: %s leads", self._identity, leader)

    def _is_free(self, lease: Lease) -> bool:
        """Return whether nobody holds a Lease, or its holder said nothing for as long as it promised to."""
        spec, now = lease.get("spec", {}), self._clock()
        if spec.get("holderIdentity", "") in ("", self._identity):
            return True
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, now)
        return now - self._seen[1] >= float(spec.get("leaseDurationSeconds") or self._lease_s)

    def _hold(self, lease: Lease | None, began: float) -> bool:
        if lease is not None:
            self._held, self._renewed_at = lease, began
        return lease is not None

    def _overdue(self) -> bool:
        return self._clock() - self._renewed_at >= self._renew_s

    def _new(self) -> Lease:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"namespace": self._namespace, "name": self._name},
            "spec": self._claim({}),
        }

    def _claim(self, lease: Lease) -> dict[str, Any]:
        spec = lease.get("spec", {})
        changed = bool(spec) and spec.get("holderIdentity") != self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._lease_s)),
            "acquireTime": _moment(),
            "renewTime": _moment(),
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + changed,
        }

    async def _tried(self, act: Callable[[], Any]) -> Any:
        """Return what an act returns, None if the API server does not answer in time or not now.

        A candidate that can never lead ends with CannotRun; a leader goes on for as long as its Lease lasts.
        """
        try:
            async with asyncio.timeout(self._renew_s / 2):
                done = await act()
        except (OperatorError, TimeoutError) as exc:
            if isinstance(exc, CannotRun) and self._held is None:
                raise
            _log.warning("The Lease %s/%s: %s", self._namespace, self._name, str(exc) or "no answer in time")
            return None
        self.heard_at = self._clock()
        return done


def _moment() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

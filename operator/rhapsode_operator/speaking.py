"""Speak to relays: have them drain, and tell them what only we can see. Called by `reconciling`.

To many at once, because a relay that is frozen answers only after seconds; and what one pod hears is in order.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from rhapsode_contract.frames import Narration
from rhapsode_operator.cases import Case
from rhapsode_operator.narrating import outdated
from rhapsode_operator.observing import Pod
from rhapsode_operator.planning import OUTDATED, DrainSeen, Removal

AT_ONCE = 64
"""Relays of one resource that are spoken to at once."""


class Relays(Protocol):
    """Who speaks to one relay."""

    async def narrate(self, pod: Pod, said: Narration) -> bool: ...
    async def drain(self, pod: Pod) -> DrainSeen | None: ...


class Speaker:
    """Speaks to the relays of resources."""

    def __init__(self, relays: Relays, clock: Callable[[], float]) -> None:
        self._relays, self._clock = relays, clock

    async def speak(
        self, case: Case, drains: Sequence[Removal], said: Mapping[str, tuple[Pod, list[Narration]]]
    ) -> None:
        """Drain pods, and narrate to pods by their uid."""
        places = asyncio.Semaphore(AT_ONCE)
        leaving = {removal.pod.uid: removal for removal in drains}

        async def speak_to(pod: Pod) -> None:
            async with places:
                if pod.uid not in leaving or await self._drain(case, leaving[pod.uid]):
                    await self._narrate(pod, said[pod.uid][1] if pod.uid in said else ())

        pods = {uid: removal.pod for uid, removal in leaving.items()} | {uid: pod for uid, (pod, _) in said.items()}
        await asyncio.gather(*map(speak_to, pods.values()))

    async def _drain(self, case: Case, removal: Removal) -> bool:
        """Have a relay take nothing new, and note how far that is; return whether it hears us."""
        pod, first = removal.pod, removal.pod.uid not in case.drains
        seen = await self._relays.drain(pod)
        case.drained(pod, seen, self._clock())
        if seen is not None and first and removal.why == OUTDATED:
            await self._relays.narrate(pod, outdated(pod))
        return seen is not None

    async def _narrate(self, pod: Pod, said: Sequence[Narration]) -> None:
        for one in said:
            if not await self._relays.narrate(pod, one):
                return

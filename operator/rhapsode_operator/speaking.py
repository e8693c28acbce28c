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
    ) -> bool:
        """Drain pods, and narrate to pods by their uid; return whether all was heard.

        Whoever did not hear is told anew: of how things are then.
        """
        places = asyncio.Semaphore(AT_ONCE)
        leaving = {removal.pod.uid: removal for removal in drains}

        async def speak_to(pod: Pod) -> bool:
            async with places:
                hears = pod.uid not in leaving or await self._drain(case, leaving[pod.uid])
                return hears and await self._narrate(pod, said[pod.uid][1] if pod.uid in said else ())

        pods = {uid: removal.pod for uid, removal in leaving.items()} | {uid: pod for uid, (pod, _) in said.items()}
        heard = dict(zip(pods, await asyncio.gather(*map(speak_to, pods.values())), strict=True))
        deaf = [uid for uid in said if not heard[uid]]
        for uid in deaf:
            case.tellers.pop(uid, None)
        return not deaf

    async def _drain(self, case: Case, removal: Removal) -> bool:
        """Have a relay take nothing new, and note how far that is; return whether it hears us."""
        pod = removal.pod
        seen = await self._relays.drain(pod)
        case.drained(pod, seen, self._clock())
        is_news = removal.why == OUTDATED and pod.uid not in case.outdated
        if seen is not None and is_news and await self._relays.narrate(pod, outdated(pod)):
            case.outdated.add(pod.uid)
        return seen is not None

    async def _narrate(self, pod: Pod, said: Sequence[Narration]) -> bool:
        for one in said:
            if not await self._relays.narrate(pod, one):
                return False
        return True

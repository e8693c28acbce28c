"""Speak to relays: have them drain, and tell them what only we can see. Called by `reconciling`.

To many at once, because a relay that is frozen answers only after seconds; and what one pod hears is in order.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from rhapsode_contract.frames import Narration
from rhapsode_operator.cases import Case
from rhapsode_operator.narrating import Teller, outdated
from rhapsode_operator.observing import Pod
from rhapsode_operator.planning import OUTDATED, DrainSeen, Removal

AT_ONCE = 64
"""Relays of one resource that are spoken to at once."""


class Saying(NamedTuple):
    """What one pod's relay is to hear, and who has told it once it has heard it."""

    pod: Pod
    words: list[Narration]
    teller: Teller


class Relays(Protocol):
    """Who speaks to one relay."""

    async def narrate(self, pod: Pod, said: Narration) -> bool: ...
    async def drain(self, pod: Pod) -> DrainSeen | None: ...


class Speaker:
    """Speaks to the relays of resources."""

    def __init__(self, relays: Relays, clock: Callable[[], float]) -> None:
        self._relays, self._clock = relays, clock

    async def speak(self, case: Case, drains: Sequence[Removal], said: Mapping[str, Saying]) -> None:
        """Drain pods, and narrate to pods by their uid. Who did not hear is told later: of how things are then."""
        places = asyncio.Semaphore(AT_ONCE)
        leaving = {removal.pod.uid: removal for removal in drains}

        async def speak_to(uid: str) -> None:
            async with places:
                hears = uid not in leaving or await self._drain(case, leaving[uid])
                if uid in said:
                    await self._narrate(case, said[uid], hears=hears)

        await asyncio.gather(*map(speak_to, dict.fromkeys([*leaving, *said])))

    async def _drain(self, case: Case, removal: Removal) -> bool:
        """Have a relay take nothing new, and note how far that is; return whether it hears us."""
        pod = removal.pod
        seen = await self._relays.drain(pod)
        case.drained(pod, seen, self._clock())
        is_news = removal.why == OUTDATED and pod.uid not in case.outdated
        if seen is not None and is_news and await self._relays.narrate(pod, outdated(pod)):
            case.outdated.add(pod.uid)
        return seen is not None

    async def _narrate(self, case: Case, said: Saying, *, hears: bool) -> None:
        for one in said.words:
            hears = hears and await self._relays.narrate(said.pod, one)
        if hears:
            case.tellers[said.pod.uid] = said.teller
        else:
            case.note_deaf(said.pod, self._clock())

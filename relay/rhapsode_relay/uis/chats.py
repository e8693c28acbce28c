"""The jobs of a chat, here and with other replicas: to come back to, and to stop. Called by `routes`.

A chat is known by its correlation id, which is its own id wherever that can be one.
"""

import asyncio
import hashlib
from dataclasses import replace
from typing import NamedTuple

from rhapsode_contract import names
from rhapsode_relay.calling import Answer, Call, Unreachable
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.forwarding import this_request
from rhapsode_relay.jobs import Job
from rhapsode_relay.neighbours import Neighbours
from rhapsode_relay.peers import Address

ASK_S = 2.0
"""How long another replica may take to say whether it has a chat's job; a page waits for it."""
_NO_SUCH_CHAT = (204, 404, 421)
"""Answers of a replica that does not make a chat's message: it says so, or knows of no chats, or is another's."""
_DOTS = (".", "..")
"""Ids that no path can hold."""


def correlation_of(given: str) -> str:
    """Return the correlation id of a chat or a thread: its own id, or one made of it. Twice is as good as once."""
    if names.CORRELATION_ID.fullmatch(given) and given not in _DOTS:
        return given
    return f"chat-{hashlib.sha256(given.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


class Word(NamedTuple):
    """What other replicas said: the answer of one that has something to tell, and whether one did not say."""

    answer: Answer | None
    silent: bool


class Chats:
    """Finds the unfinished jobs of chats."""

    def __init__(self, house: Conductor, neighbours: Neighbours | None) -> None:
        self._house = house
        self._neighbours = neighbours

    def newest(self, chat: str) -> Job | None:
        """Return the newest unfinished job of a chat here."""
        return max(self._unfinished(chat), key=lambda job: job.accepted_at, default=None)

    def stop(self, chat: str) -> None:
        """Cancel what is unfinished of a chat here, but for what cannot be taken back."""
        for job in self._unfinished(chat):
            if job.may_cancel:
                self._house.cancel(job, "client")

    def drop_left(self, chat: str, key: str) -> None:
        """Cancel what nobody reads any more: who asks anew does not come back to it, and should not wait for it.

        Who asks with the same Idempotency-Key does come back.
        """
        for job in self._unfinished(chat):
            if job.may_cancel and job.grace_until is not None and job.terms.idempotency_key != key:
                self._house.cancel(job, "client")

    async def ask_others(self, path: str) -> Word:
        """Ask all other replicas; return the first answer that has something to tell, if any."""
        calls = [asyncio.create_task(self._ask(address, path)) for address in await self._others()]
        found, silent = None, False
        try:
            for call in asyncio.as_completed(calls):
                found, unheard = await call
                silent = silent or unheard
                if found is not None:
                    break
        finally:
            await _let_go(calls, found)
        return Word(found, silent)

    async def _others(self) -> list[Address]:
        """Return whom to ask: nobody, if another replica asks us."""
        if self._neighbours is None or self._neighbours.hop():
            return []
        return await self._neighbours.peers.others()

    async def _ask(self, address: Address, path: str) -> Word:
        assert self._neighbours is not None
        call = replace(this_request(), path=path, query=b"", within_s=ASK_S)
        try:
            answer = await self._neighbours.caller.open(address, _without_cursor(call))
        except (Unreachable, TimeoutError):
            self._house.counts.forward("chat", "unreachable")
            return Word(None, silent=True)
        if answer.status == 421:
            self._neighbours.peers.exclude(address)
        if answer.status == 200:
            return Word(answer, silent=False)
        answer.close()
        return Word(None, silent=answer.status not in _NO_SUCH_CHAT)

    def _unfinished(self, chat: str) -> list[Job]:
        return [job for job in self._house.jobs.correlated(chat) if not job.over]


async def _let_go(calls: list[asyncio.Task[Word]], kept: Answer | None) -> None:
    for call in calls:
        call.cancel()
    for said in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(said, Word) and said.answer is not None and said.answer is not kept:
            said.answer.close()


def _without_cursor(call: Call) -> Call:
    return replace(call, headers=[(name, value) for name, value in call.headers if name.lower() != b"last-event-id"])

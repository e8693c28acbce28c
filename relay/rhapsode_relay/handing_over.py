"""Give a new request to a replica that is ready, when ours is not. Called by `app`.

Only requests that we cannot serve at once come here: a ready worker with room pays nothing for it. The other
replica takes the request or refuses it and never hands it on, so nothing goes in a circle; when all refuse, the
request is ours again, to be held or refused.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec
from quart import Response, request

from rhapsode_contract import events, names
from rhapsode_contract.catalogue import narrate
from rhapsode_relay.answering import correlation_id
from rhapsode_relay.calling import Answer, Broken, Call, Caller, Headers, Unreachable
from rhapsode_relay.errors import Unavailable
from rhapsode_relay.forwarding import Log, this_request
from rhapsode_relay.passing import Passages
from rhapsode_relay.peers import Address, Peers

ASK_S = 1.0
"""How long it may take to find the other replicas, and then how long all together may take to say how they are."""
BELIEVED_S = 1.0
"""How long that is believed."""
TAKE_S = 5.0
"""How long one may take to accept a request."""
ATTEMPTS = 3
TURN_S = 30.0
"""How long a request waits for an earlier one with the same Idempotency-Key to find its replica."""
NOT_TAKEN = (401, 404, 421, 503)
"""Answers of a replica that did not take a request, which was good enough for us: its key or its model is not there
yet, or no longer, or the replica is another's, or it cannot begin either."""
KEYS_KEPT = 1024
"""Idempotency keys of which we know who took the request."""
MAX_STATE_BYTES = 256 * 1024
_CREDENTIALS = (b"authorization", b"x-api-key")
_states = msgspec.json.Decoder(events.Worker)


class Candidate(NamedTuple):
    """A replica that could take a request."""

    load: int
    worker_id: str
    address: Address


def choose(found: Iterable[tuple[Address, events.Worker]], queue_limit: int) -> list[Candidate]:
    """Return who could take a request, the least loaded first. Pure."""
    return sorted(
        Candidate(state.running + state.queued, state.worker_id, address)
        for address, state in found
        if state.phase == "ready" and _has_room(state, queue_limit)
    )


def _has_room(state: events.Worker, queue_limit: int) -> bool:
    free = state.caps is not None and state.running < state.caps.slots
    return state.queued < queue_limit or (free and not state.queued)


class Offer(NamedTuple):
    """A request as another replica is to get it, and how long that one may take to begin its answer."""

    body: bytes
    within_s: float = TAKE_S
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """What is said beside what the client said."""


class Scout:
    """Asks the other replicas how they are, at most once a second for all who want to know."""

    def __init__(self, own: str, peers: Peers, caller: Caller, queue_limit: int, ask_s: float = ASK_S) -> None:
        self._own = own
        self._peers = peers
        self._caller = caller
        self._queue_limit = queue_limit
        self._ask_s = ask_s
        self._found: list[Candidate] = []
        self._asked_at = -BELIEVED_S
        self._asking: asyncio.Task[None] | None = None

    async def look(self, headers: Headers) -> None:
        """Learn who could take a request, with this client's credentials if they must be asked."""
        if self._asking is None and time.monotonic() - self._asked_at >= BELIEVED_S:
            self._asking = asyncio.create_task(self._ask_all(headers))
        if self._asking is not None:
            await asyncio.shield(self._asking)

    def take(self) -> Candidate | None:
        """Return the least loaded. The request counts from now on, or all that are on their way would go there."""
        if not self._found:
            return None
        first, *others = self._found
        self._found = sorted([first._replace(load=first.load + 1), *others])
        return first

    def refused_by(self, one: Candidate) -> None:
        """Do not ask a replica again for as long as we believe the others."""
        self._found = [other for other in self._found if other.address != one.address]

    async def _ask_all(self, headers: Headers) -> None:
        found: list[tuple[Address, events.Worker]] = []
        try:
            async with asyncio.timeout(self._ask_s):
                addresses = await self._peers.others()
            if addresses:
                await self._caller.prepare()
            async with asyncio.timeout(self._ask_s), asyncio.TaskGroup() as asking:
                for address in addresses:
                    asking.create_task(self._ask(address, headers, found))
        except (TimeoutError, Unreachable):
            pass  # who has not answered by now is too slow to be given anything
        finally:
            self._found = choose(found, self._queue_limit)
            self._asked_at, self._asking = time.monotonic(), None

    async def _ask(self, address: Address, headers: Headers, found: list[tuple[Address, events.Worker]]) -> None:
        shown = [(name, value) for name, value in headers if name.lower() in _CREDENTIALS]
        try:
            answer = await self._caller.open(address, Call(method="GET", path="/v1/worker", headers=shown))
        except Unreachable:
            return
        try:
            state = _states.decode(await answer.whole(MAX_STATE_BYTES))
        except (Broken, msgspec.DecodeError):
            return
        finally:
            answer.close()
        if state.worker_id == self._own:
            self._peers.exclude(address)
        if self._peers.knows(state.worker_id):  # an address may by now be another resource's
            found.append((address, state))


class Exchange:
    """Finds somebody else for a request."""

    def __init__(self, scout: Scout, caller: Caller, passages: Passages, log: Log) -> None:
        self._scout = scout
        self._caller = caller
        self._passages = passages
        self._log = log
        self._takers: dict[str, Candidate] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Let those who show the same Idempotency-Key find their replica one after the other. Raises Unavailable.

        Whose turn it is counts as handed over: this relay does not end before it has its answer.
        """
        turn = self._turns.setdefault(key, asyncio.Lock()) if key else asyncio.Lock()
        try:
            async with asyncio.timeout(TURN_S):
                await turn.acquire()
        except TimeoutError as exc:
            message = "a request with this Idempotency-Key is still looking for a replica; ask again"
            raise Unavailable(message, code="owner_unreachable", retry_after_s=1) from exc
        try:
            with self._passages.offering():
                yield
        finally:
            turn.release()

    async def repeat(self, key: str, offer: Offer) -> Response | None:
        """Ask whoever took the request of this Idempotency-Key before; None if that is nobody who answers."""
        if (taker := self._takers.get(key)) and (answer := await self._offer(taker, offer)):
            return self._passages.begin(answer, "handover")
        self._takers.pop(key, None)
        return None

    async def hand_over(self, why: str, key: str, offer: Offer) -> Response | None:
        """Answer with what another replica answers; None if none takes it."""
        await self._scout.look(list(request.scope["headers"]))
        for _ in range(ATTEMPTS):
            one = self._scout.take()
            if one is None:
                break
            self._remember(key, one)  # before it answers: a client that does not wait for that may ask again
            if answer := await self._offer(one, offer):
                self._passages.counts.hand_over(why)
                self._log(narrate("handed_over", {"peer": one.worker_id, "why": why}), correlation_id())
                return self._passages.begin(answer, "handover")
            self._takers.pop(key, None)
            self._scout.refused_by(one)
        return None

    async def _offer(self, taker: Candidate, offer: Offer) -> Answer | None:
        try:
            answer = await self._caller.open(taker.address, _offered(offer))
        except Unreachable:
            self._passages.counts.forward("handover", "unreachable")
            return None
        if answer.status in NOT_TAKEN:
            answer.close()
            self._passages.counts.forward("handover", "refused")
            return None
        return answer

    def _remember(self, key: str, taker: Candidate) -> None:
        if key:
            self._takers[key] = taker
            if len(self._takers) > KEYS_KEPT:
                del self._takers[next(iter(self._takers))]


def _offered(offer: Offer) -> Call:
    """Return the request as it came, with the correlation id that we chose if the client chose none."""
    came = this_request()
    headers = [(name, value) for name, value in came.headers if name.lower() != b"x-correlation-id"]
    headers += [(b"x-correlation-id", correlation_id().encode()), *offer.headers]
    return replace(came, headers=headers, body=offer.body, within_s=offer.within_s)


def hop_of() -> str:
    """Return which replica sent this request here; empty if a client did."""
    return str(request.headers.get(names.HOP_HEADER, ""))

"""Take a new request, or let another replica have it. Called by `app` and the turns' routes.

One that we cannot serve at once goes to another replica that can: then that one's answer is ours.
"""

import hashlib
from typing import Any, NamedTuple, Protocol

from quart import Response, request

from rhapsode_contract.requests import InferenceRequest
from rhapsode_relay.admitting import check_request
from rhapsode_relay.answering import adopt_correlation, correlation_id
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.errors import BadRequest, Unavailable
from rhapsode_relay.finding import JobFinder
from rhapsode_relay.handing_over import TAKE_S, Offer
from rhapsode_relay.jobs import Job
from rhapsode_relay.neighbours import Neighbours


class Order(Protocol):
    """A request that was read, and what it wants of us."""

    def trouble(self) -> str:
        """Return why another replica would be better; empty if none would."""

    def check(self) -> None:
        """Refuse what no replica would take. Raises ApiError."""

    def begin(self, correlation_id: str, key: str, body_hash: str) -> tuple[Job, bool]:
        """Begin it here; return its job, and whether it is a new one. Raises ApiError."""

    def offer(self, body: bytes) -> Offer:
        """Return it as another replica is to get it."""


class Generation(NamedTuple):
    """One generation, as a client asks for it, in whatever protocol."""

    house: Conductor
    wanted: InferenceRequest
    within_s: float = TAKE_S
    """How long another replica may take to begin the answer."""
    note: dict[str, Any] | None = None
    """What the job's terms keep of the request."""

    def trouble(self) -> str:
        return self.house.trouble()

    def check(self) -> None:
        check_request(self.wanted, self.house.settings.model, self.house.worker)

    def begin(self, correlation_id: str, key: str, body_hash: str) -> tuple[Job, bool]:
        """The same body with a note is another request: its job could not be told from the other's terms."""
        told = ":".join((*(self.note or ()), body_hash))
        return self.house.submit(self.wanted, correlation_id, key, told, self.note)

    def offer(self, body: bytes) -> Offer:
        return Offer(body, self.within_s)


class Intake:
    """Where new requests come in."""

    def __init__(self, house: Conductor, neighbours: Neighbours | None, finder: JobFinder) -> None:
        self._house = house
        self._neighbours = neighbours
        self._finder = finder

    async def take(self, order: Order, body: bytes) -> tuple[Job, bool] | Response:
        """Begin a request, or find the one that came with its Idempotency-Key; or answer with another replica's."""
        key = _idempotency_key()
        hop = self._neighbours.hop() if self._neighbours is not None else ""
        if key and not hop:  # a replica that asks does not wait so long
            await self._finder.recall(key)
        why = self._reason_to_ask(order, key, hop) if self._neighbours is not None else ""
        if why and (answer := await self._ask(why, order, key, body)):
            return answer
        job, new = order.begin(correlation_id(), key, hashlib.sha256(body).hexdigest())
        adopt_correlation(job.terms.correlation_id)
        if new and hop and self._neighbours is not None and self._neighbours.peers.knows(hop):
            self._house.welcome_from(job, hop)
        return job, new

    def _reason_to_ask(self, order: Order, key: str, hop: str) -> str:
        """Return why a request should be another replica's; empty if it is ours. Raises Unavailable."""
        if key and self._house.jobs.by_key(key):
            return ""
        why = order.trouble()
        if not hop:
            return why or ("taken" if key else "")
        if why == "loading":
            message = "this replica is not ready; the one that asked keeps the request"
            raise Unavailable(message, code="worker_loading", retry_after_s=1)
        return ""

    async def _ask(self, why: str, order: Order, key: str, body: bytes) -> Response | None:
        assert self._neighbours is not None
        exchange, offer = self._neighbours.exchange, order.offer(body)
        async with exchange.turn(key):
            if key and self._house.jobs.by_key(key):
                return None
            if key and (answer := await exchange.repeat(key, offer)):
                return answer
            if why == "taken":
                return None
            order.check()
            return await exchange.hand_over(why, key, offer)


def _idempotency_key() -> str:
    key = request.headers.get("Idempotency-Key", "")
    if key and not (key.isascii() and key.isprintable() and len(key) <= 255):
        raise BadRequest("an Idempotency-Key is 1 to 255 printable ASCII characters", param="Idempotency-Key")
    return key

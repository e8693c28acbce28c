"""Send a client's request for a job to the replica that owns it. Called by `app`.

Streams, snapshots and cancellations come to whatever replica the Service chose; the job's id names its owner. A
request is forwarded once: one that carries `X-Rhapsode-Hop` is answered here or not at all.
"""

from collections.abc import Callable

from quart import Response, request

from rhapsode_contract import frames, names
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.events import EventId
from rhapsode_relay.answering import correlation_id
from rhapsode_relay.calling import Answer, Call, Caller, Unreachable
from rhapsode_relay.errors import ApiError, Misdirected, NotFound, Unavailable
from rhapsode_relay.passing import Passages
from rhapsode_relay.peers import Peers, owner_in

RETRY_S = 2
"""When to come back to an owner that does not answer: its relay may be restarting."""
Log = Callable[[frames.Narration, str], None]
"""Write a narration to standard output, under a correlation id."""


class Forwarder:
    """Knows which requests are not for us, and brings them to whom they are for."""

    def __init__(self, own: str, peers: Peers, caller: Caller, passages: Passages, log: Log) -> None:
        self._own = own
        self._peers = peers
        self._caller = caller
        self._passages = passages
        self._log = log

    def owner_of(self, job_id: str) -> str | None:
        """Return which other replica owns a job; None if the question is ours to answer. Raises Misdirected."""
        owner = owner_in(job_id)
        if owner is None or owner == self._own:
            return None
        if names.HOP_HEADER in request.headers:  # also for a stranger's: an old address may by now be ours
            raise Misdirected(f"job {job_id} belongs to {owner}, and this is {self._own}; ask {owner}")
        return owner if self._peers.knows(owner) else None

    async def forward(self, owner: str, kind: str, job_id: str) -> Response:
        """Answer with what the owner answers. Raises ApiError if it cannot be asked."""
        return self._passages.begin(await self.reach(owner, kind, job_id, this_request()), kind)

    async def reach(self, owner: str, kind: str, job_id: str, call: Call) -> Answer:
        """Return the owner's answer. Raises ApiError if it cannot be asked."""
        try:
            answer = await self._ask(owner, call)
        except (Unreachable, OSError) as exc:
            self._passages.counts.forward(kind, "unreachable")
            why = str(exc) or "no answer in time"
            self._log(narrate("owner_unreachable", {"peer": owner, "why": why}), correlation_id())
            message = f"{owner}, which holds this job, cannot be reached now; nothing is lost yet, ask again"
            raise Unavailable(message, code="owner_unreachable", retry_after_s=RETRY_S) from exc
        if answer is None:
            self._passages.counts.forward(kind, "gone")
            raise _gone(owner, job_id)
        return answer

    async def _ask(self, owner: str, call: Call) -> Answer | None:
        address = await self._peers.find(owner)
        if address is None:
            return None
        answer = await self._caller.open(address, call)
        if answer.status == 421:
            answer.close()
            raise Unreachable(f"another replica answers at {address}")
        return answer


def this_request() -> Call:
    """Return the request as it came. Its path is safe: it holds nothing but a job id that was looked at."""
    scope = request.scope
    return Call(
        method=request.method, path=scope["path"], query=scope["query_string"], headers=list(scope["headers"])
    )


def _gone(owner: str, job_id: str) -> ApiError:
    """Return what there is to say of a job whose owner was deleted."""
    cursor = EventId.parse(request.headers.get("Last-Event-ID", ""))
    if cursor and cursor.stream == job_id:
        message = f"{owner}, which held this job, is gone for good; send the request again"
        return ApiError(410, "job_lost", message, retryable=True)
    return NotFound(f"there is no job {job_id!r}: {owner}, which it names, is gone", code="job_not_found")

"""`POST /v1/tickets`: leave to read one stream, for a page that cannot show its key. Called by `app`."""

import time
from datetime import UTC, datetime

import msgspec
from quart import Blueprint, Response, g

from rhapsode_contract.tickets import Ticket, TicketRequest
from rhapsode_relay.answering import decode_body, json_answer, read_body
from rhapsode_relay.errors import BadRequest, Unauthorized
from rhapsode_relay.keys import KeyFolder
from rhapsode_relay.tickets import LIFE_S, Claim, write

_requests = msgspec.json.Decoder(TicketRequest)


def ticket_routes(keys: KeyFolder | None) -> Blueprint:
    """Return the route of tickets."""
    routes = Blueprint("tickets", __name__)

    @routes.post("/v1/tickets")
    async def give() -> Response:
        claim = _claim_of(decode_body(_requests, await read_body()))
        answer = Ticket(ticket="", expires_at=None, url=claim.path()) if keys is None else _sealed(claim, keys)
        return json_answer(answer, 201, {"Cache-Control": "no-store"})

    return routes


def _claim_of(wanted: TicketRequest) -> Claim:
    if (wanted.job_id is None) == (wanted.correlation_id is None):
        raise BadRequest("send either job_id or correlation_id", param="job_id")
    expires_at = int(time.time()) + LIFE_S
    if wanted.job_id is not None:
        return Claim(g.key_name, "job", wanted.job_id, expires_at)
    return Claim(g.key_name, "correlation", wanted.correlation_id or "", expires_at)


def _sealed(claim: Claim, keys: KeyFolder) -> Ticket:
    seal = keys.seal_of(claim.key_name)
    if seal is None:  # it was taken away since it opened
        raise Unauthorized
    ticket = write(claim, seal)
    expires_at = datetime.fromtimestamp(claim.expires_at, UTC).isoformat().replace("+00:00", "Z")
    return Ticket(ticket=ticket, expires_at=expires_at, url=f"{claim.path()}?ticket={ticket}")

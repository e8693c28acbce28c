"""Tickets: leave to read one job or one correlation id for five minutes. Called by `gate` and `ticket_routes`. Pure.

A browser cannot send a key with an EventSource or a WebSocket, and a key in a URL would be in every log on its way. A
ticket may be there: it opens one stream, to read only, and not for long. It is sealed with what follows from the API
key that asked for it, so every replica can judge it, and it ends with its key.
"""

import base64
import binascii
import hmac
import os
import re
from typing import Literal, NamedTuple, Protocol

from rhapsode_relay.errors import ApiError

LIFE_S = 300
MAX_CHARS = 1024
"""Longer than any ticket that we write."""
Kind = Literal["job", "correlation"]
_TICKET = re.compile(r"v1\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})")
_IN_QUERY = re.compile(rb"(?:^|(?<=&))ticket=([A-Za-z0-9._-]{1,%d})(?=&|$)" % MAX_CHARS)
_LETTERS: dict[Kind, str] = {"job": "j", "correlation": "c"}
_KINDS: dict[str, Kind] = {letter: kind for kind, letter in _LETTERS.items()}


class Claim(NamedTuple):
    """What a ticket says: with whose key it was made, what it opens and until when."""

    key_name: str
    kind: Kind
    subject: str
    expires_at: int
    """Seconds since 1970."""

    def path(self) -> str:
        """Return the path of the stream that it opens."""
        folder = "inference" if self.kind == "job" else "correlations"
        return f"/v1/{folder}/{self.subject}/stream"

    def covers(self, method: str, path: str) -> bool:
        """Return whether it opens this: reading the one thing that it is for, and nothing else."""
        if method != "GET":
            return False
        if self.kind == "job":
            job = f"/v1/inference/{self.subject}"
            return path in (job, f"{job}/stream", f"{job}/ws")
        return path == self.path()


class Seals(Protocol):
    """Where the seals of keys are."""

    def seal_of(self, name: str) -> bytes | None: ...


class TicketRefused(ApiError):
    """A ticket that opens nothing, or not this."""


def write(claim: Claim, seal: bytes) -> str:
    """Return a claim as a ticket."""
    subject = _LETTERS[claim.kind] + claim.subject
    said = f"v1.{_encode(os.fsencode(claim.key_name))}.{_encode(subject.encode())}.{claim.expires_at}"
    return f"{said}.{_mac(said, seal)}"


def check(ticket: str, seals: Seals, now: float) -> Claim:
    """Return what a ticket claims, if that is so. Raises TicketRefused."""
    claim = _genuine(ticket, seals)
    if claim is None:
        message = "this ticket is not of any key of this worker; ask for one with POST /v1/tickets"
        raise TicketRefused(401, "invalid_ticket", message)
    if claim.expires_at <= now:
        message = "this ticket has expired; ask for another with POST /v1/tickets"
        raise TicketRefused(401, "ticket_expired", message)
    return claim


def check_scope(claim: Claim, method: str, path: str) -> None:
    """Refuse what a ticket is not for. Raises TicketRefused."""
    if not claim.covers(method, path):
        message = f"this ticket opens GET {claim.path()} and nothing else; send a key for the rest"
        raise TicketRefused(403, "ticket_not_for_this", message)


def renew_in(query: bytes, seals: Seals, now: float) -> bytes:
    """Return a query whose ticket, if it was ever good, is good again.

    A stream outlives the ticket that opened it. What this relay asks of other replicas for that stream must, too.
    """
    found = _IN_QUERY.search(query)
    claim = _genuine(found[1].decode(), seals) if found else None
    seal = seals.seal_of(claim.key_name) if claim else None
    if found is None or claim is None or seal is None:
        return query
    ticket = write(claim._replace(expires_at=int(now) + LIFE_S), seal)
    return query[: found.start(1)] + ticket.encode() + query[found.end(1) :]


def _genuine(ticket: str, seals: Seals) -> Claim | None:
    """Return what a ticket claims; None if it was not made with a key that is here, or was changed since."""
    found = _TICKET.fullmatch(ticket) if len(ticket) <= MAX_CHARS else None
    if found is None:
        return None
    name, subject = os.fsdecode(_decode(found[1])), _decode(found[2]).decode("ascii", "replace")
    seal = seals.seal_of(name) if name else None
    if not subject or seal is None or subject[0] not in _KINDS:
        return None
    said, _, shown = ticket.rpartition(".")
    if not hmac.compare_digest(shown.encode(), _mac(said, seal).encode()):
        return None
    return Claim(name, _KINDS[subject[0]], subject[1:], int(found[3]))


def _mac(said: str, seal: bytes) -> str:
    return _encode(hmac.digest(seal, said.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    """Return what was encoded; nothing for what was not."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return b""

"""What `POST /v1/tickets` takes and gives: leave to read one stream, for a page that cannot show a key."""

from typing import Annotated

from msgspec import Meta, Struct

JobId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,160}\Z")]
CorrelationId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")]


class TicketRequest(Struct, kw_only=True):
    """What the ticket is to open: exactly one of a job and a correlation id."""

    job_id: JobId | None = None
    correlation_id: CorrelationId | None = None


class Ticket(Struct, kw_only=True):
    """Leave to read one stream until `expires_at`; `url` is that stream's, ticket and all.

    Where there are no keys, nothing has to be shown: the ticket is empty and never expires.
    """

    ticket: str
    expires_at: str | None
    url: str

"""Take the requests of OpenAI's clients like any other, and wait for their jobs. Called by the routes here."""

from typing import NamedTuple

from quart import Response

from rhapsode_contract import events
from rhapsode_relay.answering import job_headers
from rhapsode_relay.dialects.translating import Hear, ending_of, failure_of, wait_over
from rhapsode_relay.handing_over import TAKE_S
from rhapsode_relay.jobs import Job
from rhapsode_relay.opening import Opener
from rhapsode_relay.taking import Generation, Intake

HOLD_S = 10.0
"""How long the status of a stream waits for its first word, so that a job that fails before it has a status."""
WHOLE_S = 3600.0
"""How long another replica may take for an answer that is not streamed."""


class Taken(NamedTuple):
    """A request that has its job, and what the answer's headers say of that."""

    job: Job
    headers: dict[str, str]


def within(*, whole: bool) -> float:
    """Return how long another replica may take to begin an answer: a whole one comes when all of it is there."""
    return TAKE_S + (WHOLE_S if whole else HOLD_S)


async def take(intake: Intake, order: Generation, body: bytes) -> Taken | Response:
    """Begin a request here, or answer with another replica's. Raises ApiError."""
    taken = await intake.take(order, body)
    if isinstance(taken, Response):
        return taken
    job, new = taken
    return Taken(job, job_headers(job.id, new=new))


async def whole_of(opener: Opener, job: Job, hear: Hear | None = None) -> events.End:
    """Return the end of a job when it is there; its text is whole by then. Raises ApiError for one that failed."""
    await wait_over(opener, job, hear)
    ending = ending_of(job)
    if isinstance(ending, events.Error):
        raise failure_of(ending.error, retryable=ending.retryable)
    return ending

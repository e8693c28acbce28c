"""Which protocol a stream is told in: `format=`. Called by `app` and the routes of turns."""

from quart import Response, request

from rhapsode_relay.dialects import Dialect
from rhapsode_relay.dialects.translating import speak
from rhapsode_relay.errors import BadRequest
from rhapsode_relay.jobs import Job
from rhapsode_relay.opening import Opener, asked_place
from rhapsode_relay.uis.agui import AguiDialect
from rhapsode_relay.uis.vercel import VercelDialect

FORMATS = ("native", "agui", "vercel")


def asked_format() -> str:
    """Return the protocol that this request wants. Raises BadRequest; asked before a job begins."""
    name = str(request.args.get("format", "native"))
    if name not in FORMATS:
        raise BadRequest(f"unknown format {name[:40]!r}; there are {', '.join(FORMATS)}", param="format")
    return name


async def speak_format(opener: Opener, job: Job, name: str) -> Response:
    """Answer with a job's stream in a protocol without resumption: always from its beginning."""
    place = asked_place()._replace(last_event_id=None, after=None)
    return await speak(opener, job, _dialect(name, job), place=place)


def _dialect(name: str, job: Job) -> Dialect:
    if name == "vercel":
        return VercelDialect(job.id)
    return AguiDialect(job.id, job.terms.correlation_id, job.id)

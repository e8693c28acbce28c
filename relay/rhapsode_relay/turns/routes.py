"""`POST /v1/turns`: streamed, accepted, or answered when all is written. Made by `__main__`."""

import asyncio
import secrets
from typing import NamedTuple, Protocol, cast

import msgspec
from quart import Blueprint, Response, request

from rhapsode_contract.turns import MAX_TURN_BYTES, TurnRequest, TurnResult
from rhapsode_relay.answering import accepts_stream, decode_body, job_headers, json_answer, read_body
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.errors import ApiError
from rhapsode_relay.handing_over import TAKE_S, Offer
from rhapsode_relay.jobs import Job
from rhapsode_relay.taking import Intake
from rhapsode_relay.turns.failing import status_of
from rhapsode_relay.turns.turn_jobs import TurnJob
from rhapsode_relay.turns.turns import Turns
from rhapsode_relay.uis.formats import asked_format

_requests = msgspec.json.Decoder(TurnRequest)


class Desk(Protocol):
    """How jobs are answered for, turns or not."""

    intake: Intake

    async def stream(self, job: Job) -> Response: ...

    def acknowledge(self, job: Job, *, new: bool) -> Response: ...


class RoutedTurns(Turns):
    """All turns of one relay, and the way to them."""

    def routes(self, desk: Desk) -> Blueprint:
        """Return the route of turns. All else of a turn is a job's."""
        return _turn_routes(self, desk)


def _turn_routes(turns: Turns, desk: Desk) -> Blueprint:
    routes = Blueprint("turns", __name__)

    @routes.post("/v1/turns")
    async def begin() -> Response:
        asked_format()
        body = await _read_body()
        order = _Order(turns.house, turns, decode_body(_requests, body), _wants_all())
        taken = await desk.intake.take(order, body)
        if isinstance(taken, Response):
            return taken
        job, new = taken
        if accepts_stream():
            return await desk.stream(job)
        return await _whole(cast("TurnJob", job), order, new=new) if order.whole else desk.acknowledge(job, new=new)

    return routes


class _Order(NamedTuple):
    """One turn, as a client asks for it; see `taking.Order`."""

    house: Conductor
    turns: Turns
    wanted: TurnRequest
    whole: bool

    def trouble(self) -> str:
        return self.house.trouble() or ("full" if self.turns.full else "")

    def check(self) -> None:
        self.turns.check(self.wanted)

    def begin(self, correlation_id: str, key: str, body_hash: str) -> tuple[Job, bool]:
        return self.turns.begin(self.wanted, correlation_id, key, body_hash)

    def offer(self, body: bytes) -> Offer:
        """A turn that is run twice, since its first replica did not answer, shows sinks the same key both times."""
        key = () if "Idempotency-Key" in request.headers else ((b"idempotency-key", secrets.token_hex(16).encode()),)
        seconds = self.turns.contract(self.wanted.contract).outcome.limits.turn_seconds
        return Offer(body, seconds + TAKE_S if self.whole else TAKE_S, key)


async def _read_body() -> bytes:
    if (request.content_length or 0) > MAX_TURN_BYTES:
        raise _too_large()
    body = await read_body()
    if len(body) > MAX_TURN_BYTES:
        raise _too_large()
    return body


def _too_large() -> ApiError:
    return ApiError(413, "body_too_large", f"the body of a turn may take {MAX_TURN_BYTES} bytes")


def _wants_all() -> bool:
    """Whether the client waits for the whole answer, rather than for a stream or for an id."""
    return not accepts_stream() and "respond-async" not in request.headers.get("Prefer", "").lower()


async def _whole(job: TurnJob, order: _Order, *, new: bool) -> Response:
    """Answer when the turn is over, with all of it or with its error."""
    await _wait_over(job)
    headers = job_headers(job.id, new=new)
    end = job.end
    if end is None:
        raise _error_of(job)
    assert end.outcome is not None
    result = TurnResult(
        job_id=job.id,
        correlation_id=job.terms.correlation_id,
        contract=job.contract,
        outcome=end.outcome,
        normalized=end.normalized or [],
        writes=end.writes or [],
        timing=end.timing,
        usage=end.usage,
        stop_reason=end.stop_reason,
        text_len=end.text_len,
        text_sha256=end.text_sha256,
        dry_run=order.wanted.dry_run,
    )
    return json_answer(result, headers=headers)


async def _wait_over(job: TurnJob) -> None:
    """Wait until a turn is over. A client that leaves changes nothing but the log."""
    if job.over:
        return
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell() -> None:
        if not over.done():
            over.set_result(None)

    job.waiting.append(tell)
    try:
        await over
    except asyncio.CancelledError:
        job.on_phase(job, "client_disconnect")
        raise
    finally:
        job.waiting.remove(tell)


def _error_of(job: TurnJob) -> ApiError:
    error = job.error
    assert error is not None
    status = status_of(error.code, retryable=job.retryable)
    return ApiError(
        status, error.code, error.message, retryable=job.retryable, retry_after_s=1 if status == 503 else None
    )

"""HTTP answers that are the same everywhere: JSON, errors, streams, correlation ids. Called by `app` and `admin`."""

import math
import re
import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from quart import Quart, Response, current_app, g, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from rhapsode_contract import events, names
from rhapsode_relay.choices import choices
from rhapsode_relay.counting import Counts
from rhapsode_relay.errors import ApiError, BadRequest
from rhapsode_relay.reading import Reader
from rhapsode_relay.serving import Passage, PatientRequest, StreamConnection, client_of

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
"""What keeps proxies from buffering or compressing a stream."""


def bare_app(name: str, counts: Counts) -> Quart:
    """Return an application that answers every error in our shape and echoes correlation ids."""
    app = Quart(name, static_folder=None)
    app.asgi_http_class = StreamConnection
    app.request_class = PatientRequest
    app.config.update(MAX_CONTENT_LENGTH=names.MAX_BODY_BYTES, BODY_TIMEOUT=None, PROVIDE_AUTOMATIC_OPTIONS=True)

    @app.errorhandler(ApiError)
    async def refuse(error: ApiError) -> Response:
        counts.refuse(error.code)
        return error_answer(error)

    @app.errorhandler(HTTPException)
    async def explain(error: HTTPException) -> Response:
        refusal = _from_http(error)
        counts.refuse(refusal.code)
        answer = error_answer(refusal)
        if isinstance(error, MethodNotAllowed):
            answer.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return answer

    @app.errorhandler(Exception)
    async def apologize(error: Exception) -> Response:
        app.logger.error("request failed", exc_info=error)
        return error_answer(ApiError(500, "internal_error", "the relay failed; its log says why", retryable=True))

    @app.after_request
    async def echo(response: Response) -> Response:
        chosen = g.get("correlation_id") or correlation_id()
        response.headers["X-Correlation-Id"] = response.headers["X-Request-Id"] = chosen
        return response

    return app


def correlation_id() -> str:
    """Return the id of this request: the client's, if it is one that we can echo, else a new one."""
    if "correlation_id" not in g:
        g.correlation_id = _given_id(request.headers) or f"req-{secrets.token_hex(8)}"
    return str(g.correlation_id)


def adopt_correlation(of_job: str) -> None:
    """Echo a job's id where the client gave none of its own."""
    if _given_id(request.headers) is None:
        g.correlation_id = of_job


def choose_correlation(chosen: str) -> None:
    """Let this request have the id that its body names."""
    g.correlation_id = chosen


def _given_id(headers: Headers) -> str | None:
    for name in ("X-Correlation-Id", "X-Request-Id"):
        if names.CORRELATION_ID.fullmatch(headers.get(name, "")):
            return headers[name]
    trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace else None


async def read_body() -> bytes:
    """Return the body of this request; it is read once and kept."""
    body = await request.get_data(as_text=False)
    assert isinstance(body, bytes)
    return body


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return what a body says. Raises BadRequest, which names the field that is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        what, _, path = str(exc).partition(" - at `$")
        what += _instead(choices(decoder.type, path))
        param = path.rstrip("`").lstrip(".") or None
        raise BadRequest(f"{param}: {what}" if param else what, param=param) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        why = f"is not JSON: {exc}" if body else "is empty; send JSON"
        raise BadRequest(f"the body {why}", code="invalid_json") from exc


def _instead(words: list[str]) -> str:
    """Return what may be sent instead, if that is known."""
    return f"; send {' or '.join(map(repr, words))}" if words else ""


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(_encode(body), status, dict(headers or {}), content_type="application/json")


def error_answer(error: ApiError) -> Response:
    """Return an error in the one shape that all of them have."""
    body = events.ErrorResponse(error=error.body(), correlation_id=correlation_id(), retryable=error.retryable)
    headers = {"x-should-retry": "true" if error.retryable else "false"}  # OpenAI's clients go by it
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        headers["retry-after-ms"] = str(math.ceil(error.retry_after_s * 1000))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 426:
        headers |= {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    return json_answer(body, error.status, headers)


def entrust(passage: Passage) -> Response:
    """Return a stand-in for an answer that writes itself to the connection."""
    client_of(request.scope).passage = passage
    response = Response(b"")
    response.timeout = None
    return response


def accepts_stream() -> bool:
    """Return whether the client asks for events as they come."""
    return "text/event-stream" in request.headers.get("Accept", "").lower()


def job_headers(job_id: str, *, new: bool) -> dict[str, str]:
    """Return what the answer to a request says of its job: which one, and whether an earlier request began it."""
    return {"X-Job-Id": job_id} | ({} if new else {"Idempotent-Replayed": "true"})


def event_stream(reader: Reader, headers: Mapping[str, str] | None = None) -> Response:
    """Return the stream of a reader, which is the connection's from now on."""
    response = Response(b"", headers=STREAM_HEADERS | dict(headers or {}))
    if request.method == "HEAD":
        reader.leave()
        return response
    client_of(request.scope).reader = reader
    response.timeout = None
    del response.headers["Content-Length"]
    return response


def _from_http(error: HTTPException) -> ApiError:
    status = error.code or 500
    code = {404: "path_not_found", 405: "method_not_allowed", 413: "body_too_large"}.get(status, "http_error")
    message = {
        404: f"there is no {request.path[:200]}; {_meant(request.path)}",
        405: f"{request.method} is not allowed here; {_allowed(error)} is",
        413: f"a body may take {names.MAX_BODY_BYTES} bytes; send less",
    }.get(status, error.description or "the request cannot be served")
    return ApiError(status, code, message)


def _meant(path: str) -> str:
    """Say what was meant, perhaps: base URLs are easily given with one /v1 too few, or one too many."""
    served = {rule.rule for rule in current_app.url_map.iter_rules()}
    bare = path.rstrip("/")
    likely = (near for near in (bare, f"/v1{bare}", bare.removeprefix("/v1")) if near in served)
    if near := next(likely, ""):
        return f"did you mean {near}?"
    clients = "/openapi.json" in served
    return "/openapi.json says what there is" if clients else "what clients ask is at the other port"


def _allowed(error: HTTPException) -> str:
    methods = error.valid_methods or () if isinstance(error, MethodNotAllowed) else ()
    return " or ".join(sorted(set(methods) - {"HEAD", "OPTIONS"})) or "nothing"

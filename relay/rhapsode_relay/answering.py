"""HTTP answers that are the same everywhere: JSON, errors, streams, correlation ids. Called by `app` and `admin`."""

import re
import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from quart import Quart, Response, g, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from rhapsode_contract import events, names
from rhapsode_relay.counting import Counts
from rhapsode_relay.errors import ApiError, BadRequest
from rhapsode_relay.reading import Reader
from rhapsode_relay.serving import StreamConnection, client_of

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
    app.config.update(MAX_CONTENT_LENGTH=names.MAX_BODY_BYTES, BODY_TIMEOUT=30, PROVIDE_AUTOMATIC_OPTIONS=True)

    @app.errorhandler(ApiError)
    async def refuse(error: ApiError) -> Response:
        counts.refuse(error.code)
        return error_answer(error)

    @app.errorhandler(HTTPException)
    async def explain(error: HTTPException) -> Response:
        return error_answer(_from_http(error))

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


def _given_id(headers: Headers) -> str | None:
    for name in ("X-Correlation-Id", "X-Request-Id"):
        if names.CORRELATION_ID.fullmatch(headers.get(name, "")):
            return headers[name]
    trace = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace else None


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return what a body says. Raises BadRequest, which names the field that is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        what, _, path = str(exc).partition(" - at `$")
        param = path.rstrip("`").lstrip(".") or None
        raise BadRequest(f"{param}: {what}" if param else what, param=param) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequest(f"the body is not JSON: {exc}", code="invalid_json") from exc


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(_encode(body), status, dict(headers or {}), content_type="application/json")


def error_answer(error: ApiError) -> Response:
    """Return an error in the one shape that all of them have."""
    body = events.ErrorResponse(error=error.body(), correlation_id=correlation_id(), retryable=error.retryable)
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return json_answer(body, error.status, headers)


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
        404: f"there is no {request.path[:200]}",
        405: f"{request.method} is not allowed here",
        413: f"a body may take {names.MAX_BODY_BYTES} bytes",
    }.get(status, error.description or "the request cannot be served")
    return ApiError(status, code, message)

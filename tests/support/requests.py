"""Requests to a relay that are answered at once, and the one shape in which they are refused."""

import contextlib
import json
import socket
from typing import Any

import httpx

from support.processes import DEADLINE_S, Relay


def post(relay: Relay, body: Any, **headers: str) -> httpx.Response:
    """Ask without a stream, also with a body that is no JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body)
    return httpx.post(f"{relay.url}/v1/inference", content=content, headers=headers)


def exchange(port: int, sent: bytes, *, leave: bool = False) -> bytes:
    """Send bytes and return what comes until the relay closes; `leave` says that there are no more bytes."""
    answer = b""
    lost = contextlib.suppress(ConnectionResetError, BrokenPipeError)
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as connection, lost:
        connection.sendall(sent)
        if leave:
            with contextlib.suppress(OSError):  # the relay may have closed first
                connection.shutdown(socket.SHUT_WR)
        while data := connection.recv(65536):
            answer += data
    return answer


def assert_error(answer: httpx.Response, status: int, code: str, *, retryable: bool = False) -> dict[str, Any]:
    """Return the error of an answer, which has the one shape of errors."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"error", "correlation_id", "retryable"}
    assert body["error"].keys() <= {"message", "type", "code", "param"}
    assert (body["error"]["code"], body["retryable"]) == (code, retryable)
    assert body["correlation_id"] == answer.headers["x-correlation-id"]
    error: dict[str, Any] = body["error"]
    return error

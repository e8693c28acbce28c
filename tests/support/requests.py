"""Requests to a relay that are answered at once, and the one shape in which they are refused."""

import json
from typing import Any

import httpx

from support.processes import Relay


def post(relay: Relay, body: Any, **headers: str) -> httpx.Response:
    """Ask without a stream, also with a body that is no JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body)
    return httpx.post(f"{relay.url}/v1/inference", content=content, headers=headers)


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

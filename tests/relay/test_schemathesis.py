"""Schemathesis asks all that `/openapi.json` describes, and much that it does not, of a real relay and its worker."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import CheckContext
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import positive_data_acceptance

from rhapsode_contract import names
from rhapsode_relay.openapi.documenting import document
from support.processes import Play, manifest, playing

EXAMPLES = 6
ENDLESS = {"/v1/worker/stream", "/v1/correlations/{id}/stream"}
"""Streams that never end by themselves: one event is enough."""
OF_JOBS = {
    "/v1/inference/{id}", "/v1/inference/{id}/stream", "/v1/responses/{id}", "/v1/responses/{id}/cancel",
    "/v1/models/{id}",
}  # fmt: skip
"""Paths whose ids chance will not meet."""


REFUSED = ["400", "401", "404", "405", "409", "410", "413", "422", "426"]
"""Statuses of a request that its schema forbids: it may also be too long, or no handshake."""
DELETES_OTHERS = {"allow_header_conformance": {"enabled": False}, "unsupported_method": {"enabled": False}}
"""A chat's id may hold slashes, so a DELETE here is that of the chat `ID/stream`."""
CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": 7,
        "request-timeout": 60.0,
        "max-stream-events": 40,
        "checks": {"negative_data_rejection": {"expected-statuses": REFUSED}},
        "operations": [{"include-path": path, "max-stream-events": 1} for path in sorted(ENDLESS)]
        + [{"include-path": "/v1/vercel/chat/{id}/stream", "checks": DELETES_OTHERS}],
    }
)
described = schemathesis.openapi.from_dict(document(), config=CONFIG)
of_jobs = schemathesis.openapi.from_dict(
    document() | {"paths": {path: document()["paths"][path] for path in sorted(OF_JOBS)}}, config=CONFIG
)
thorough = settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def asked() -> Iterator[Play]:
    """A worker that says what it says at once."""
    script = {"load": [], "tokensPerSecond": 0}
    with playing(manifest(engine={"options": script})) as play:
        play.wait_ready()
        yield play


@pytest.fixture(scope="module")
def known(asked: Play) -> dict[str, str]:
    """The id of something that is there, for each path of `OF_JOBS`."""
    job = httpx.post(f"{asked.url}/execute", json={"prompt": "Sing", "max_tokens": 3}).headers["X-Job-Id"]
    asking = {"input": "Sing", "max_output_tokens": 3, "background": True}
    response = httpx.post(f"{asked.url}/v1/responses", json=asking).json()["id"]
    return {path: response if "responses" in path else "sim" if "models" in path else job for path in OF_JOBS}


def codes_are_described(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """An error's code is one of those that its status can have."""
    words = document()["paths"][case.operation.path][case.operation.method]["responses"].get(
        str(response.status_code)
    )
    if words is not None and "x-rhapsode-codes" in words:
        assert response.json()["error"]["code"] in words["x-rhapsode-codes"], response.text


@described.parametrize()
@thorough
def test_every_answer_is_as_described(case: Case[Any], asked: Play) -> None:
    bound(case, asked)
    check(case, asked)


@of_jobs.parametrize()
@thorough
def test_what_is_there_is_answered_as_described(case: Case[Any], asked: Play, known: dict[str, str]) -> None:
    case.path_parameters = {"id": known[case.operation.path]}
    check(case, asked)


def check(case: Case[Any], asked: Play) -> None:
    """Judge one answer. That a body is refused whose schema is fine is no fault: a regex may be none, a key used."""
    case.call_and_validate(
        base_url=asked.url, additional_checks=[codes_are_described], excluded_checks=[positive_data_acceptance]
    )


def bound(case: Case[Any], asked: Play) -> None:
    """Keep a request from taking longer than a test may: ask for few tokens, and give an endless stream a job to tell."""
    body: Any = case.body
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if isinstance(body, dict) and isinstance(body.get(name), int) and body[name] > 8:
            body[name] = 8
    wanted = str((case.path_parameters or {}).get("id", ""))
    if case.operation.path == "/v1/correlations/{id}/stream" and names.CORRELATION_ID.fullmatch(wanted):
        asking = {"prompt": "Sing", "max_tokens": 1}
        httpx.post(f"{asked.url}/v1/inference", json=asking, headers={"X-Correlation-Id": wanted})

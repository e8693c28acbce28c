"""Make the description of the client port from the tables. Called by `routes` and by tests. Pure."""

import functools
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import rhapsode_contract
from rhapsode_contract.events import ErrorResponse
from rhapsode_relay.openapi import job_operations, openai_operations, ui_operations, worker_operations
from rhapsode_relay.openapi.operations import Answer, Operation, Parameter, Schema, Stream
from rhapsode_relay.openapi.schemas import components_of, event_name, message_name, refer

OPERATIONS: tuple[Operation, ...] = (
    *job_operations.OPERATIONS,
    *openai_operations.OPERATIONS,
    *ui_operations.OPERATIONS,
    *worker_operations.OPERATIONS,
)
"""Every operation of the client port."""

_EVERYWHERE = {400: "invalid_http", 403: "host_not_allowed", 408: "request_timeout", 431: "headers_too_large",
               500: "internal_error", 503: "too_many_connections"}  # fmt: skip
"""Refusals that every route may give, since they come before it or instead of it."""
_WITH_BODY = {413: "body_too_large"}
_WITH_KEY = {401: "invalid_api_key", 429: "rate_limited"}
_WITH_PATH = {404: "path_not_found"}
_FROM_ELSEWHERE = {403: "origin_not_allowed"}
"""What a page of another site gets where it would begin or end something."""
_TEXT: Schema = {"schema": {"type": "string"}}
_ALWAYS: Schema = {"schema": {"type": "string"}, "required": True}
HEADERS: dict[str, Schema] = {
    "X-Correlation-Id": {"description": "The request's id: yours, or the one that it was given."} | _ALWAYS,
    "X-Job-Id": {"description": "The job's id."} | _ALWAYS,
    "X-Replay": {
        "description": "How the stream begins.",
        "required": True,
        "schema": {"type": "string", "enum": ["live", "replay", "snapshot"]},
    },
    "Link": {"description": 'The path of the job\'s stream, as `rel="events"`.'} | _TEXT,
    "Location": {"description": "The job's path."} | _ALWAYS,
    "Retry-After": {"description": "Seconds until it is worth another try.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "How to show a key."} | _TEXT,
}
_SECURITY: dict[str, Schema] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of this worker, where keys are set."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The same, in its own header."},
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "A ticket that opens the reading of one job or correlation id for five minutes.",
    },
}
_TAGS = {
    "Jobs": "A request is a job: it has an id, and is read, resumed, looked at and cancelled by it.",
    "Turns": "A story and its intents, validated by a contract of the manifest, then written.",
    "Worker": "What the worker does and how it is.",
    "OpenAI": "What OpenAI's clients know, with their names. Narration is opt-in.",
    "UI protocols": "AG-UI and Vercel's AI SDK, as their own clients speak them. Narration is on.",
    "About": "What this port has for programs and people.",
}
_ABOUT = """
Inference workers that tell you what they are doing. Narration and tokens are typed events of one SSE stream.

`text/event-stream` answers: `schema` describes one event with its lines, and `x-rhapsode-events` what its `data`
holds, as JSON; `x-rhapsode-formats` the same for each `format=`. Ignore events and fields that you do not know. In
silence comments come.

Every error has one shape; `x-rhapsode-codes` are the codes that a status can have.
""".strip()


@functools.cache
def document(operations: tuple[Operation, ...] = OPERATIONS) -> dict[str, Any]:
    """Return the description."""
    streams = tuple(dict.fromkeys(_streams(operations)))
    types = list({id(one): one for one in _types(operations)}.values())
    schemas, components = components_of(types, streams)
    draft = _Draft({id(one): schema for one, schema in zip(types, schemas, strict=True)})
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = draft.operation(operation)
    tags = [tag for tag in _TAGS if any(operation.tag == tag for operation in operations)]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rhapsode", "version": rhapsode_contract.__version__, "description": _ABOUT,
                 "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": _TAGS[tag]} for tag in tags],
        "paths": paths,
        "components": {"schemas": components, "headers": HEADERS, "securitySchemes": _SECURITY},
    }  # fmt: skip


def refusals_of(operation: Operation) -> dict[int, list[str]]:
    """Return the codes of all errors that an operation can have, by status."""
    found: dict[int, list[str]] = {}
    sources = [operation.refusals, _EVERYWHERE]
    sources += [_WITH_BODY] * (operation.body is not None) + [_WITH_KEY] * (not operation.is_public)
    sources += [_WITH_PATH] * ("{" in operation.path)
    sources += [_FROM_ELSEWHERE] * (operation.method != "get" or operation.messages is not None)
    for source in sources:
        for status, codes in source.items():
            found.setdefault(status, []).extend(codes.split())
    return {status: sorted(set(codes)) for status, codes in sorted(found.items())}


def _types(operations: tuple[Operation, ...]) -> Iterator[Any]:
    yield ErrorResponse
    for operation in operations:
        bodies = (operation.body, *(answer.body for answer in operation.answers))
        yield from (one for one in bodies if one is not None)


def _streams(operations: tuple[Operation, ...]) -> Iterator[Stream]:
    for operation in operations:
        for answer in operation.answers:
            yield from (one for one in (answer.stream, *answer.formats.values()) if one is not None)
        if operation.messages is not None:
            yield operation.messages


class _Draft:
    """Says operations in OpenAPI's words; `schemas` are those of the types, by their identity."""

    def __init__(self, schemas: dict[int, Schema]) -> None:
        self._schemas = schemas

    def operation(self, one: Operation) -> Schema:
        words: Schema = {"operationId": one.name, "tags": [one.tag], "summary": one.summary}
        if one.details:
            words["description"] = one.details
        if one.parameters:
            words["parameters"] = [_parameter(parameter) for parameter in one.parameters]
        if one.body is not None:
            example = {} if one.example is None else {"example": one.example}
            content = {"application/json": {"schema": self._schemas[id(one.body)]} | example}
            words["requestBody"] = {"required": True, "content": content}
        if one.messages is not None:
            words["x-rhapsode-messages"] = refer(message_name(one.messages))
        answers = {str(answer.status): self._answer(answer) for answer in one.answers}
        errors = {str(status): self._refusal(status, codes) for status, codes in refusals_of(one).items()}
        return words | {"responses": answers | errors, "security": _security(one)}

    def _answer(self, one: Answer) -> Schema:
        content: Schema = {}
        if one.body is not None:
            content[one.media_type] = {"schema": self._schemas[id(one.body)]}
        elif one.media_type != "application/json":
            content = dict.fromkeys((one.media_type, *one.other_types), _TEXT)
        if one.stream is not None:
            content["text/event-stream"] = _streamed(one.stream, one.formats)
        words: Schema = {"description": one.what, "headers": _headers(("X-Correlation-Id", *one.headers))}
        return words | ({"content": content} if content else {})

    def _refusal(self, status: int, codes: list[str]) -> Schema:
        headers: list[str] = {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])
        return {
            "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes)}.",
            "headers": _headers(tuple(headers)),
            "content": {"application/json": {"schema": self._schemas[id(ErrorResponse)]}},
            "x-rhapsode-codes": codes,
        }


def _parameter(one: Parameter) -> Schema:
    words: Schema = {"name": one.name, "in": one.place, "description": one.what, "schema": one.schema}
    words |= {"required": True} if one.is_required else {}
    return words | ({} if one.example is None else {"example": one.example})


def _streamed(stream: Stream, formats: Mapping[str, Stream]) -> Schema:
    native = {"x-rhapsode-events": refer(stream.name)}
    if not formats:
        return {"schema": refer(event_name(stream))} | native
    lines = [refer(event_name(one)) for one in (stream, *formats.values())]
    return (
        {"schema": {"anyOf": lines}}
        | native
        | {"x-rhapsode-formats": {name: refer(one.name) for name, one in formats.items()}}
    )


def _headers(names: tuple[str, ...]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _security(one: Operation) -> list[Schema]:
    """Say what opens; the last, no key at all, is how it is where no keys are set."""
    if one.is_public:
        return []
    opens: list[Schema] = [{"bearer": []}, {"apiKey": []}]
    return [*opens, *([{"ticket": []}] if one.takes_ticket else []), {}]

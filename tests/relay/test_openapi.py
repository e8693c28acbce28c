"""`/openapi.json` says what the client port does: neither more nor less, and valid, as OpenAPI 3.1 judges it."""

import asyncio
import logging
import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from rhapsode_contract import events, names
from rhapsode_contract.validating import decode_manifest
from rhapsode_relay.app import create_app
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.finding import JobFinder
from rhapsode_relay.hearing import Hearing
from rhapsode_relay.openapi.documenting import OPERATIONS, document
from rhapsode_relay.openapi.operations import Operation
from rhapsode_relay.openapi.parameters import JobEvent, WorkerEvent
from rhapsode_relay.reading import Readers
from rhapsode_relay.settings import RelaySettings
from support.processes import Relay, manifest, running_relay

WHERE = "describe it: an Operation in a table of relay/rhapsode_relay/openapi/*_operations.py"
by_name = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)


def _routes() -> set[tuple[str, str]]:
    """Return method and path of every route of the client port; what a parameter is called does not matter."""
    house = Conductor(RelaySettings.load(decode_manifest(manifest()), {}), "epoch", logging.getLogger("test"))
    app = create_app(house, Readers(1, 1, 1), JobFinder(house, Hearing(house), 0), None)
    rules = [(rule.methods or set(), re.sub("<[^>]*>", "{}", rule.rule)) for rule in app.url_map.iter_rules()]
    return {(method.lower(), path) for methods, path in rules for method in methods - {"HEAD", "OPTIONS"}}


def _described() -> set[tuple[str, str]]:
    return {(one.method, re.sub("{[^}]*}", "{}", one.path)) for one in OPERATIONS}


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _walk(child)


async def test_every_route_is_described() -> None:
    assert sorted(await asyncio.to_thread(_routes) - _described()) == [], WHERE


async def test_nothing_is_described_that_is_not_there() -> None:
    assert sorted(_described() - await asyncio.to_thread(_routes)) == []


def test_the_document_is_valid() -> None:
    assert [str(error) for error in OPENAPI_31_VALIDATOR.iter_errors(document())] == []


def test_every_reference_leads_somewhere() -> None:
    asked = {node["$ref"] for node in _walk(document()) if isinstance(node.get("$ref"), str)}
    for node in _walk(document()):
        asked |= set(node.get("discriminator", {}).get("mapping", {}).values()) if "discriminator" in node else set()
    kinds = document()["components"]
    assert asked
    lost = [ref for ref in asked if not _leads(kinds, ref)]
    assert lost == []


def _leads(kinds: dict[str, Any], ref: str) -> bool:
    start, _, rest = ref.partition("#/components/")
    kind, _, name = rest.partition("/")
    return not start and name in kinds.get(kind, {})


def test_names_are_as_openapi_and_generators_want_them() -> None:
    ids = [one.name for one in OPERATIONS]
    assert len(ids) == len(set(ids))
    for kind in document()["components"].values():
        assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in kind)


def test_no_event_is_forgotten() -> None:
    assert set(get_args(JobEvent)) | set(get_args(WorkerEvent)) == set(get_args(events.StreamEvent))


@by_name
def test_the_parameters_of_a_path_are_those_that_are_described(operation: Operation) -> None:
    described = [one.name for one in operation.parameters if one.place == "path"]
    assert sorted(re.findall("{([^}]*)}", operation.path)) == sorted(described)
    assert all(one.is_required for one in operation.parameters if one.place == "path")


@by_name
def test_examples_are_what_they_are_examples_of(operation: Operation) -> None:
    assert (operation.body is None) == (operation.example is None)
    if operation.body is not None:
        msgspec.convert(operation.example, operation.body)


def test_everybody_gets_it_and_only_as_it_is(shared: Relay) -> None:
    answer = shared.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == msgspec.json.decode(msgspec.json.encode(document()))
    assert shared.get("/openapi.json").content == answer.content


def test_no_key_is_needed_to_read_it(tmp_path: Any) -> None:
    with running_relay(environ={names.ENV_KEYS: str(tmp_path)}) as relay:
        assert relay.get("/v1/models").status_code == 401
        assert relay.get("/openapi.json").status_code == 200

"""A contract of two-phase turns is refused with its path, its rule and what was found; a good one decodes."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rhapsode_contract.manifests import load_manifest, save_manifest
from rhapsode_contract.turns import ContextWish, TurnRequest
from rhapsode_contract.validating import ManifestError, decode_manifest
from support.contracts import BAD_CONTRACTS, contract, serving


@pytest.mark.parametrize(("path", "value", "message"), BAD_CONTRACTS)
def test_a_bad_contract_is_refused_with_its_path_and_its_rule(path: str, value: Any, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        decode_manifest(serving(contract(path, value)))
    assert str(caught.value).startswith(f"spec.outcomes{'[0]' * message.startswith('.')}{message}")


def test_every_contract_is_judged_and_named_by_its_number() -> None:
    with pytest.raises(ManifestError) as caught:
        decode_manifest(serving(contract("name", "a"), contract("sinks.0.url", "x"), contract("name", "c")))
    assert [problem.path for problem in caught.value.problems] == ["spec.outcomes[1].sinks[0].url"]


def test_two_contracts_have_two_names() -> None:
    with pytest.raises(ManifestError, match=r"^spec\.outcomes: expected contracts with different names$"):
        decode_manifest(serving(contract(), contract()))


def test_defaults_are_those_that_the_documentation_names() -> None:
    (read,) = decode_manifest(serving(contract())).spec.outcomes
    assert (read.generation.narrative_tokens, read.generation.intents_tokens) == (64, 512)
    source, sink, limits = read.context[0], read.sinks[2], read.limits
    assert (source.method, source.timeout_seconds, source.count_parameter, source.required) == (
        "GET",
        2,
        "count",
        False,
    )
    assert (sink.method, sink.timeout_seconds, sink.part, sink.as_, sink.required) == ("PUT", 5, "", None, False)
    assert (limits.context_seconds, limits.narrative_seconds, limits.intents_seconds) == (5, 120, 60)
    assert (limits.write_seconds, limits.turn_seconds, limits.narrative_bytes) == (30, 60, 65_536)
    assert decode_manifest(serving()).spec.relay.turn_limit == 64


def test_null_is_absent_but_a_schema_keeps_what_it_says() -> None:
    nulls = contract("sinks.0.secretHeader", None) | {"limits": None, "generation": {"intentsTokens": None}}
    (read,) = decode_manifest(serving(nulls)).spec.outcomes
    assert read.sinks[0].secret_header is None
    assert read.generation.intents_tokens == 512
    assert read.schema == nulls["schema"]
    assert read.schema["properties"]["intents"]["properties"]["mood"] == {"const": None}


def test_a_contract_survives_its_json(tmp_path: Path) -> None:
    resource = decode_manifest(serving(contract()))
    save_manifest(resource, tmp_path / "m.json")
    assert load_manifest(tmp_path / "m.json") == resource


def test_a_client_names_a_contract_and_how_much_context_it_wants() -> None:
    text = '{"contract": "dm", "context": {"a": true, "b": {"count": 20}, "c": false, "d": {}}, "url": "http://evil"}'
    request = msgspec.json.decode(text, type=TurnRequest)
    assert request.wanted() == {"a": 3, "b": 20, "d": 3}
    assert request.context["b"] == ContextWish(count=20)
    assert not request.dry_run


@pytest.mark.parametrize(
    "wish",
    [{"count": 0}, {"count": 21}, {"count": "3"}, 3, "yes", None, {"url": "http://evil"}],
)
def test_what_is_no_wish_for_context_is_refused(wish: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps({"contract": "dm", "context": {"a": wish}}), type=TurnRequest)

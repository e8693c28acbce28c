"""What only a program can tell of a contract: its schema, its templates, and whether they fit together."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rhapsode_contract import names
from rhapsode_contract.outcomes import Outcome
from rhapsode_relay.turns.contracts import check_contracts, compile_contracts
from rhapsode_relay.turns.schemas import at_place
from support.contracts import CONTRACT, contract, serving
from support.processes import DEADLINE_S

DEEP: Any = {"type": "object"}
for _ in range(80):
    DEEP = {"type": "object", "properties": {"a": DEEP}}

BAD: list[tuple[str, Any, str]] = [
    ("schema.type", "objekt", ".schema.type: 'objekt' is not valid"),
    ("schema.$defs.place.properties.name", {"pattern": "("}, ".schema.$defs.place.properties.name.pattern: '('"),
    ("schema.$defs.place.properties.name", DEEP, ".schema: is nested deeper than 64 levels"),
    ("schema.properties.intents", ..., ".schema.properties.intents: required"),
    ("schema.properties.intents", True, ".schema.properties.intents: required"),
    ("schema.properties.intents", {"type": "array"}, ".schema.properties.intents.type: expected object"),
    ("schema.properties.narrative.type", "object", ".schema.properties.narrative.type: expected string"),
    (
        "schema.$schema",
        "http://json-schema.org/draft-07/schema#",
        ".schema.$schema: expected https://json-schema.org",
    ),
    ("schema.$defs.place.$id", "http://x/y", ".schema.$defs.place.$id: only the whole schema can have an id"),
    ("schema.$defs.place", {"$ref": "http://evil/x"}, ".schema.$defs.place.$ref: refers to http://evil/x, outside"),
    ("schema.$defs.place", {"$ref": "file:///etc/passwd"}, ".schema.$defs.place.$ref: refers to file:///etc/passwd"),
    ("schema.$defs.place", {"$ref": "other"}, ".schema.$defs.place.$ref: refers to other, outside"),
    ("schema.$defs.place", {"$dynamicRef": "http://x"}, ".schema.$defs.place.$dynamicRef: refers to http://x"),
    (
        "schema.$defs.place",
        {"$ref": "#/$defs/none"},
        ".schema.$defs.place.$ref: refers to #/$defs/none, which is not",
    ),
    (
        "schema.$defs.place",
        {"$ref": "#/properties/narrative"},
        ".schema.$defs.place.$ref: refers to #/properties/narr",
    ),
    ("schema.$defs.place", {"$ref": "#"}, ".schema.$defs.place.$ref: refers to #; the intents stand alone"),
    ("prompt.narrative", "a\n{% for x in inputs %}", ".prompt.narrative: line 2: Unexpected end of template"),
    ("prompt.narrative", "{{ 1 +", ".prompt.narrative: line 1: "),
    ("prompt.narrative", "{{ x|nosuch }}", ".prompt.narrative: line 1: No filter named 'nosuch'"),
    ("prompt.system", "{% include 'x' %}", ".prompt.system: line 1: a template can load no other"),
    ("prompt.system", "{{ narrative }}", ".prompt.system: narrative is none of context, inputs"),
    ("prompt.intents", "{{ policy.x }}", ".prompt.intents: policy is none of context, inputs, narrative"),
    ("prompt.narrative", "\n{{ context.spark }}", ".prompt.narrative: line 2: there is no context source spark"),
    ("normalize.0.path", "/intents/quest/name", ".normalize[0].path: the schema has no /intents/quest/name"),
    ("normalize.0.path", "/intents/poi/*/name", ".normalize[0].path: the schema has no /intents/poi/*/name"),
    ("normalize.3.path", "/intents/pois/x/name", ".normalize[3].path: the schema has no /intents/pois/x/name"),
    (
        "normalize.0.fallbackFrom",
        "/intents/poi/city",
        ".normalize[0].fallbackFrom: the schema has no /intents/poi/city",
    ),
    ("normalize.0.fallback", 7, ".normalize[0].fallback: does not fit /intents/poi/name: it must be of type"),
    ("normalize.2.fallback", [1], ".normalize[2].fallback: does not fit /intents/poi/tags: /0 must be of type"),
    ("normalize.1.path", "/intents/poi/name", ".normalize[1].path: /intents/poi/name has a rule already"),
    ("normalize.4", {"path": "/intents/pois/0/name"}, ".normalize[4].path: /intents/pois/0/name has a rule already"),
    ("sinks.0.part", "/intents/quest", ".sinks[0].part: the schema has no /intents/quest"),
    ("sinks.0.part", "/quest", ".sinks[0].part: the schema has no /quest"),
    ("sinks.1.as", None, ".sinks[1].part: /narrative is no object; name the field that it becomes in as"),
    ("sinks.0.when.1.path", "/intents/poi/act", ".sinks[0].when[1].path: the schema has no /intents/poi/act"),
]


def read(raw: dict[str, Any]) -> Outcome:
    return msgspec.convert(raw, Outcome)


def test_a_good_contract_has_no_problems_and_compiles() -> None:
    outcome = read(CONTRACT)
    assert check_contracts([outcome]) == []
    (compiled,) = compile_contracts([outcome]).values()
    assert compiled.outcome is outcome
    assert compiled.intents_schema == {
        "$defs": CONTRACT["schema"]["$defs"], **CONTRACT["schema"]["properties"]["intents"],
    }  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_a_bad_contract_is_named_with_its_path_and_why(path: str, value: Any, message: str) -> None:
    assert check_contracts([read(CONTRACT), read(contract(path, value))])[0].startswith(f"spec.outcomes[1]{message}")


def test_a_schema_that_refers_to_itself_without_end_is_found() -> None:
    endless = contract("schema.properties.intents", {"$ref": "#/$defs/place"})
    endless["schema"]["$defs"]["place"] = {"$ref": "#/$defs/place"}
    assert "spec.outcomes[0].schema: the schema refers to itself without end" in check_contracts([read(endless)])


def test_intents_that_are_only_a_reference_are_what_it_refers_to() -> None:
    referring = contract("schema.properties.intents", {"$ref": "#/$defs/place"})
    (compiled,) = compile_contracts([read(referring)]).values()
    assert compiled.intents_schema["type"] == "object"
    assert compiled.intents_schema["properties"] == CONTRACT["schema"]["$defs"]["place"]["properties"]


@pytest.mark.parametrize(
    ("schema", "pointer", "told"),
    [
        ({"properties": {"a": {"type": "string"}}}, "a", {"type": "string"}),
        ({"properties": {"a": {}}}, "b", False),
        ({"properties": {"a": {}}, "additionalProperties": True}, "b", None),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "null"}}, "b", {"type": "null"}),
        ({"properties": {"a": {}}, "patternProperties": {"b": {}}}, "b", None),
        ({"anyOf": [{"properties": {"a": {}}}]}, "b", None),
        ({"type": "object"}, "b", None),
        ({"type": "string"}, "b", False),
        ({"type": "array", "items": {"const": 1}}, "0", {"const": 1}),
        ({"type": "array"}, "*", None),
        ({"type": "array", "prefixItems": [{}], "items": {}}, "*", None),
        ({}, "b", None),
        (False, "b", False),
    ],
)
def test_of_a_place_is_told_what_can_be_told(schema: Any, pointer: str, told: Any) -> None:
    assert at_place(schema, [pointer]) == told


def test_a_relay_whose_contract_is_wrong_ends_with_one_line_and_status_78(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(serving(contract("sinks.0.part", "/intents/quest"))))
    done = subprocess.run(
        [sys.executable, "-m", "rhapsode_relay"], capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        env={"RHAPSODE_MANIFEST": str(path), "RHAPSODE_SOCKET": str(tmp_path / "s"), **_python()},
    )  # fmt: skip
    assert done.returncode == names.EXIT_CANNOT_WORK
    assert done.stderr == "rhapsode-relay: spec.outcomes[0].sinks[0].part: the schema has no /intents/quest\n"


def _python() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}

"""The simulator's text, and the script that it plays."""

import itertools
import json
from typing import Any

import jsonschema
import pytest

from rhapsode_contract.tools import Function, Tool
from rhapsode_worker.engines.simulating import Script, read_script, simulated_text, words_of
from rhapsode_worker.engines.simulating_tools import least, say_call
from rhapsode_worker.errors import LoadError


def test_the_simulators_text_is_a_function_of_seed_prompt_and_length() -> None:
    assert simulated_text(7, "hello", 50) == simulated_text(7, "hello", 50)
    assert simulated_text(7, "hello", 80).startswith(simulated_text(7, "hello", 50))
    assert len({simulated_text(seed, "hello", 20) for seed in range(20)}) == 20
    assert simulated_text(7, "hello", 12) == "".join(itertools.islice(words_of(7, "hello"), 12))
    assert simulated_text(0, "pinned", 8) == ' together\n by; harp "quoted" nighted', (
        "the same on every machine, for ever"
    )


def test_a_script_is_read_with_its_own_names() -> None:
    script = read_script(
        {
            "load": [{"stage": "a", "seconds": 1}],
            "tokensPerSecond": 9,
            "faults": [{"kind": "exit", "at": "a", "times": 1}],
        }
    )
    assert [fault.kind for fault in script.faults_at("a", attempt=1)] == ["exit"]
    assert script.faults_at("a", attempt=2) == []
    assert Script().tokens_per_second == 50


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokensPerSecond": -1}, "spec.engine.options.tokensPerSecond"),
        ({"load": [{"stage": ""}]}, "spec.engine.options.load[0].stage"),
        ({"faults": [{"kind": "explode", "at": "x"}]}, "spec.engine.options.faults[0].kind"),
        ({"faults": [{"kind": "exit"}]}, "spec.engine.options.faults[0] needs either 'at' or 'afterTokens'"),
        ({"faults": [{"kind": "exit", "at": "nowhere"}]}, "spec.engine.options.faults[0].at names no stage of load"),
        ({"speed": 1}, "speed"),
    ],
)
def test_a_script_that_cannot_be_played_is_refused_by_name(options: dict[str, object], words: str) -> None:
    with pytest.raises(LoadError) as caught:
        read_script(options)
    assert words in str(caught.value)
    assert caught.value.reason == "BadEngineOption"


def test_a_simulated_call_is_a_function_of_seed_and_prompt_in_several_tokens() -> None:
    tools = [Tool(type="function", function=Function(name=name)) for name in ("sing", "walk")]
    said = list(say_call(tools, 7, "hello"))
    assert said == list(say_call(tools, 7, "hello"))
    assert len(said) > 10
    assert {"".join(say_call(tools, seed, "hello")) for seed in range(20)} == {
        f'<tool_call>\n{{"name":"{name}","arguments":{{}}}}\n</tool_call>' for name in ("sing", "walk")
    }


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, {}),
        ({"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}, {"a": "x"}),
        ({"type": "string", "minLength": 3}, "xxx"),
        ({"enum": ["C", "F"]}, "C"),
        ({"const": 0}, 0),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "number", "exclusiveMaximum": 0}, -1),
        ({"type": ["null", "string"]}, None),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "x"),
    ],
)
def test_simulated_arguments_are_the_least_that_a_schema_allows(schema: dict[str, Any], value: Any) -> None:
    assert least(schema) == value
    jsonschema.validate(value, schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"anyOf": []},
        {"enum": "no list"},
        {"type": {}, "required": [1, None]},
        {"type": "array", "minItems": 10**9, "items": 5},
        {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}},
        {"type": "array", "minItems": 64, "items": {"$ref": "#"}},
        {"required": [*"abcdefgh"], "properties": {name: {"$ref": "#"} for name in "abcdefgh"}},
    ],
)
def test_schemas_that_never_end_cost_little(schema: dict[str, Any]) -> None:
    assert len(json.dumps(least(schema))) < 100_000

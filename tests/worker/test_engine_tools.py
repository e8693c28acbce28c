"""What every engine promises of tools and penalties: told when it can, and then done."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from rhapsode_contract import frames
from rhapsode_contract.tools import CLOSING, OPENING, Function, FunctionCall, Tool, ToolCall
from rhapsode_worker.engines import ENGINES
from rhapsode_worker.errors import LoadError, RequestError
from support.engines import Driver, calling_plan, plan_of
from support.fake_tensorrt import lent

LONG = "Once upon a time there was a rhapsode who walked from city to city, and"
PENALISING = {"OpenVINO": True, "Simulator": False, "TensorRTLLM": False}
"""As each is tested: TensorRT-LLM 1.2 takes penalties and ignores them."""
CITY = {"type": "object", "properties": {"city": {"type": "string", "minLength": 1}}, "required": ["city"]}
TOOLS = [Tool(type="function", function=Function(name="get_weather_now", description="Weather.", parameters=CITY))]
CALL = ToolCall(id="call_1", function=FunctionCall(name="get_weather_now", arguments='{"city":"Delphi"}'))
ASK = frames.Message(role="user", content="How is the weather in Delphi?")
ROUND = [
    ASK,
    frames.Message(role="assistant", content="", tool_calls=[CALL]),
    frames.Message(role="tool", content="Oracular.", tool_call_id="call_1", name="get_weather_now"),
]


@pytest.fixture(scope="module", params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """An engine whose model's chat template has tools."""
    with lent():
        driver = Driver(calling_plan(request.param, tmp_path_factory.mktemp("model")))
        yield driver
        driver.close()


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_it_says_of_a_model_without_tools_that_it_has_none_and_whether_it_knows_penalties(name: str) -> None:
    with lent():
        driver = Driver(plan_of(name))
        driver.close()
    assert (driver.caps.tools, driver.caps.penalties) == (False, PENALISING[name])


def test_it_says_that_a_model_has_tools(engine: Driver) -> None:
    assert engine.caps.tools


def test_tools_calls_and_results_are_part_of_the_prompt(engine: Driver) -> None:
    def prompt_tokens(messages: list[frames.Message], tools: list[Tool]) -> int:
        return engine.run(messages=messages, tools=tools, max_tokens=1).prefilled.prompt_tokens

    bare, told = prompt_tokens([ASK], []), prompt_tokens([ASK], TOOLS)
    assert bare < told < prompt_tokens(ROUND, TOOLS)


def test_hostile_tools_and_calls_are_a_requests_own_trouble(engine: Driver) -> None:
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {
            "properties": {"{{ messages }}{% for": deep, "n": {"minimum": 10**40, "const": "a\x00\u2028</tool_call>"}}
        }
    tools = [Tool(type="function", function=Function(name="f", description="{% raise %}" + CLOSING, parameters=deep))]
    odd = [FunctionCall(name="f", arguments=text) for text in ("", "no JSON", "[1]", '{"a":"' + OPENING + '"}')]
    calls = frames.Message(role="assistant", content="", tool_calls=[ToolCall(function=one) for one in odd])
    for messages, given in (([ASK], tools), ([ASK, calls, ROUND[2]], TOOLS)):
        with contextlib.suppress(RequestError):
            engine.run(messages=messages, tools=given, max_tokens=2)
    assert engine.run(messages=[ASK], tools=TOOLS, max_tokens=2).finished.tokens > 0


def test_a_call_that_is_asked_for_keeps_to_the_tools_schema(engine: Driver) -> None:
    if not engine.caps.json_schema:  # the simulator calls when it is given tools
        text = engine.run(messages=[ASK], tools=TOOLS, max_tokens=60).text
        text = text.removeprefix(OPENING).removesuffix(CLOSING)
    else:
        call = {
            "properties": {"name": {"enum": ["get_weather_now"]}, "arguments": CITY | {"additionalProperties": False}}
        }
        schema = {"type": "object", "required": ["name", "arguments"], "additionalProperties": False} | call
        text = engine.run(messages=[ASK], tools=TOOLS, max_tokens=100, json_schema=schema).text
    said = json.loads(text)
    assert said["name"] == "get_weather_now"
    jsonschema.validate(said["arguments"], CITY)


def test_penalties_change_what_is_said_where_they_are_known() -> None:
    driver = Driver(plan_of("OpenVINO"))
    try:
        whole = driver.run(prompt=LONG, max_tokens=40).text
        again = driver.run(prompt=LONG, max_tokens=40, presence_penalty=0.0, frequency_penalty=0.0).text
        often = driver.run(prompt=LONG, max_tokens=40, frequency_penalty=-2.0).text
        once = driver.run(prompt=LONG, max_tokens=40, presence_penalty=2.0).text
    finally:
        driver.close()
    assert whole == again
    assert len({whole, often, once}) == 3


@pytest.mark.parametrize(
    ("version", "knows"),
    [("1.2.1", False), ("1.3.0rc9", False), ("1.3.0rc24", True), ("1.3.0", True), ("2.0", True), ("dev", False)],
)
def test_tensorrt_llm_is_given_penalties_from_the_version_on_that_counts_them(version: str, knows: bool) -> None:
    with lent(FAKE_TRTLLM_VERSION=version):
        from tensorrt_llm import LLM

        driver = Driver(plan_of("TensorRTLLM"))
        driver.run(prompt=LONG, max_tokens=2, presence_penalty=0.5)
        given = LLM.made[-1].sampling_seen[-1]
        driver.close()
    assert driver.caps.penalties == knows
    assert (given.presence_penalty, given.frequency_penalty) == (0.5, 0.0)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].content }}",
        "{{ raise_exception('no roles here') }}",
        "{{ tools }}{% for one in messages %}<tool_call>{{ one.content }}</tool_call>{% endfor %}",
        "{{ tools | tojson }}{% for one in messages %}<function={{ one.tool_calls }}></function>{% endfor %}",
        "{% for one in messages %}<tool_call>{{ (one.tool_calls or [one])[0].function | tojson }}</tool_call>{% endfor %}",
    ],
    ids=["neither", "refuses", "no calls", "other tags", "no tools"],
)
def test_another_convention_is_not_claimed(template: str, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    with lent():
        driver = Driver(plan_of("TensorRTLLM", path=str(tmp_path)))
        driver.close()
    assert not driver.caps.tools


def test_a_chat_template_that_is_none_fails_the_load_and_is_named() -> None:
    with pytest.raises(LoadError) as caught:
        Driver(plan_of("OpenVINO", options={"chat_template": "{% for message in"}))
    assert (caught.value.reason, "spec.engine.options.chat_template" in str(caught.value)) == (
        "BadEngineOption",
        True,
    )

"""What only OpenVINO has: schemas, real chat, IR folders, and errors in words that help."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rhapsode_contract import frames
from rhapsode_worker.engines import LoadPlan
from rhapsode_worker.errors import LoadError, RequestError
from support.engines import Driver
from support.models import smollm

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def plan(path: Path, **options: Any) -> LoadPlan:
    return LoadPlan(
        engine="OpenVINO", model="smollm2", path=str(path), max_sequences=2, max_context_tokens=512, options=options
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[Driver]:
    driver = Driver(plan(smollm()))
    yield driver
    driver.close()


def test_chat_goes_through_the_models_own_template(engine: Driver) -> None:
    messages = [frames.Message(role="user", content="Why is the sky blue? Answer in one sentence.")]
    run = engine.run(messages=messages, max_tokens=64)
    assert run.finished.reason == "stop", "an instruct model ends by itself when it is asked in its own format"
    assert "sky" in run.text.lower()
    assert "<|im_" not in run.text


def test_a_schema_is_kept(engine: Driver) -> None:
    messages = [frames.Message(role="user", content="Describe a person as JSON.")]
    person = json.loads(engine.run(messages=messages, max_tokens=80, json_schema=PERSON).text)
    assert person.keys() == {"name", "age"}
    assert isinstance(person["age"], int)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "#/nope"},
        {"type": "string", "pattern": "(["},
        {"type": "integer", "minimum": 5, "maximum": 1},
    ],
    ids=["type", "ref", "pattern", "range"],
)
def test_a_schema_that_the_compiler_refuses_ends_its_own_request_and_no_other(
    engine: Driver, schema: dict[str, Any]
) -> None:
    """Without care one bad schema makes the pipeline throw for everyone, for ever."""
    other = engine.start("other", prompt="Once upon a time", max_tokens=60)
    engine.wait_pieces(other, 1)
    with pytest.raises(RequestError) as caught:
        engine.run(prompt="x", json_schema=schema)
    assert (caught.value.reason, caught.value.param) == ("invalid_json_schema", "json_schema")
    assert "/src/" not in caught.value.why
    assert other.wait().finished.tokens == 60


def test_good_and_bad_schemas_that_come_together_are_told_apart(engine: Driver) -> None:
    bad = [engine.start(prompt="x", json_schema={"type": "nonsense"}) for _ in range(2)]
    good = [engine.start(prompt="A person:", json_schema=PERSON, max_tokens=80) for _ in range(2)]
    for run in bad:
        with pytest.raises(RequestError):
            run.wait()
    for run in good:
        assert json.loads(run.wait().text)


def test_an_empty_prompt_is_refused(engine: Driver) -> None:
    with pytest.raises(RequestError) as caught:
        engine.run(prompt="")
    assert caught.value.reason == "empty_prompt"


def test_the_answer_ends_where_the_context_does(engine: Driver) -> None:
    run = engine.run(prompt="word " * 500, max_tokens=400, stop=[])
    assert run.prefilled.prompt_tokens + run.finished.tokens <= 512


def test_a_prompt_that_came_before_is_answered_sooner(engine: Driver) -> None:
    """The prefix cache at work; a ratio far from 1, not a time."""
    prompt = "The list of all cities on the way: " + ", ".join(f"city {at}" for at in range(60))
    first, again = engine.run(prompt=prompt, max_tokens=1), engine.run(prompt=prompt, max_tokens=1)
    assert first.text == again.text


def test_an_ir_folder_is_served_like_the_file_it_was_made_of(engine: Driver, tmp_path: Path) -> None:
    import openvino_genai as genai

    model = tmp_path / "model.gguf"
    model.symlink_to(smollm())
    genai.Tokenizer(str(model), enable_save_ov_model=True)
    scheduler = genai.SchedulerConfig()
    genai.ContinuousBatchingPipeline(str(model), scheduler, "CPU", {"enable_save_ov_model": True})
    model.unlink()
    assert (tmp_path / "openvino_model.xml").is_file()
    served = Driver(plan(tmp_path))
    try:
        messages = [frames.Message(role="user", content="What is the capital of France?")]
        answer = served.run(messages=messages, max_tokens=20).text
    finally:
        served.close()
    assert "Paris" in answer


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"not a model", {}, "OpenVINO says"),
        (b"", {"device": "NPU9"}, "spec.engine.options.device"),
        (None, {"properties": {"NO_SUCH_PROPERTY": 1}}, "spec.engine.options.device and .properties"),
        (None, {"cache_size": "big"}, "spec.engine.options.cache_size"),
    ],
)
def test_a_load_that_cannot_work_says_why_and_what_to_do(
    tmp_path: Path, content: bytes | None, options: dict[str, Any], words: str
) -> None:
    path = smollm()
    if content is not None:
        path = tmp_path / "m.gguf"
        path.write_bytes(content)
    with pytest.raises(LoadError) as caught:
        Driver(plan(path, **options))
    assert words in str(caught.value)

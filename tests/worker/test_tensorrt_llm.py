"""TensorRT-LLM's adapter on a stand-in: the ways of the API that only this engine has."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rhapsode_contract import frames
from rhapsode_worker.engines import LoadPlan, Measured
from rhapsode_worker.engines import tensorrt_llm_signatures as signatures
from rhapsode_worker.errors import LoadError, RequestError
from support.engines import Driver
from support.fake_tensorrt import fakes_environ, lent
from support.processes import wait_until

PROMPT = "Sing of the city and of the rivers, and of the singer who walked there long ago."


def plan(path: str = "", **options: Any) -> LoadPlan:
    return LoadPlan(
        engine="TensorRTLLM", model="m", path=path, max_sequences=2, max_context_tokens=512, options=options
    )


@pytest.fixture(scope="module", autouse=True)
def package() -> Iterator[None]:
    with lent():
        yield


@pytest.fixture(scope="module")
def engine() -> Iterator[Driver]:
    driver = Driver(plan())
    yield driver
    driver.close()


def _few_settings(max_tokens: int = 32) -> None:
    """What an older package may take."""


def made() -> Any:
    """Return the LLM that was made last."""
    from tensorrt_llm import LLM

    return LLM.made[-1]


def test_the_stand_in_has_the_committed_signatures() -> None:
    known = signatures.committed()
    for name, wanted in known["callables"].items():
        found = signatures.find(name)
        assert signatures.parameters_of(found) == wanted["parameters"], name
        assert signatures.is_open(found) == wanted.get("open", False), name
        assert set(wanted.get("used", ())) <= set(wanted["parameters"]), name
    assert signatures.differences() == []


def test_the_stand_in_knows_the_arguments_that_we_name_and_refuses_others() -> None:
    from tensorrt_llm import LLM

    LLM(model="", **dict.fromkeys(signatures.committed()["arguments"])).shutdown()
    with pytest.raises(ValueError, match="LLM got invalid argument: speed"):
        LLM(model="", speed=9)


def test_what_a_package_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorrt_llm

    monkeypatch.delattr(tensorrt_llm.LLM, "get_stats_async")
    monkeypatch.setattr(tensorrt_llm, "SamplingParams", _few_settings)
    found = signatures.differences()
    assert "there is no tensorrt_llm.LLM.get_stats_async" in found
    assert "tensorrt_llm.SamplingParams has no seed" in found


async def test_the_stand_in_has_the_ways_of_the_real_one() -> None:
    """One object, mutated; leaving aborts nothing; an abort ends as cancelled; a stop string stops nobody inside."""
    from tensorrt_llm import LLM, SamplingParams

    llm = LLM(model="", max_batch_size=1)
    params = SamplingParams(max_tokens=500, stop="zzz")
    output = llm.generate_async(inputs="[[endless]]", sampling_params=params, streaming=True)
    assert params.end_id is not None, "the object was changed"
    seen = [await anext(output), await anext(output)]
    assert seen[0] is seen[1] is output
    await asyncio.sleep(0.05)
    assert llm.worker.running == 1
    assert not output.finished
    output.abort()
    last = [step.outputs[0].finish_reason async for step in output][-1]
    assert (last, output.finished, output.aborted()) == ("cancelled", True, True)
    word = output.outputs[0].text.split()[0]
    stopping = llm.generate_async(
        inputs="[[endless]]", sampling_params=SamplingParams(max_tokens=500, stop=word), streaming=True
    )
    reasons = [step.outputs[0].stop_reason async for step in stopping]
    assert (reasons[-1], stopping.finished, llm.worker.running) == (word, True, 1)
    llm.shutdown()
    with pytest.raises(RuntimeError, match="shutting down"):
        llm.generate_async(inputs=[5])


def test_the_stand_in_needs_a_loop_when_a_request_is_made() -> None:
    from tensorrt_llm import LLM

    llm = LLM(model="")
    output = llm.generate_async(inputs=[5], streaming=True)
    with pytest.raises(AssertionError, match="event loop was not present"):
        asyncio.run(anext(output))
    llm.shutdown()


def test_what_a_manifest_says_reaches_the_constructor_by_its_names() -> None:
    driver = Driver(plan("/models/m", kvCacheFraction=0.7, cudaGraphs=False, loadFormat="dummy"))
    try:
        said = made().arguments
        assert (said["model"], said["max_batch_size"], said["max_seq_len"]) == ("/models/m", 2, 512)
        assert (said["kv_cache_config"].free_gpu_memory_fraction, said["load_format"]) == (0.7, "dummy")
        assert said["cuda_graph_config"] is None
        assert said["guided_decoding_backend"] == "xgrammar"
    finally:
        driver.close()


def test_every_request_has_settings_of_its_own(engine: Driver) -> None:
    begin = len(made().sampling_seen)
    for _ in range(2):
        engine.run(prompt=PROMPT, max_tokens=3)
    seen = made().sampling_seen[begin:]
    assert (len(seen), len({id(one) for one in seen})) == (2, 2)


def test_a_stop_string_ends_the_request_inside_the_engine_too(engine: Driver) -> None:
    whole = engine.run(prompt=PROMPT, max_tokens=20).text
    run = engine.run(prompt=PROMPT, max_tokens=400, stop=[whole[10:14]])
    assert (run.text, run.finished.reason) == (whole[: whole.index(whole[10:14])], "stop")
    wait_until(lambda: made().worker.running == 0, "nothing runs in the engine")


async def test_who_leaves_early_leaves_nothing_running_in_the_engine(engine: Driver) -> None:
    run = engine.start_endless("left", prompt=PROMPT)
    engine.wait_pieces(run, 1)
    run.future.cancel()
    wait_until(lambda: made().worker.running == 0, "nothing runs in the engine")


def test_a_schema_is_kept(engine: Driver) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    assert json.loads(engine.run(prompt="x", json_schema=schema, max_tokens=40).text) == {"age": 7}


def test_the_engines_own_measures_come_before_the_end(engine: Driver) -> None:
    run = engine.run(prompt=PROMPT, max_tokens=3)
    measured = run.steps[-2]
    assert isinstance(measured, Measured)
    assert measured.queue_ms is not None
    assert measured.first_token_ms is not None
    again = engine.run(prompt=PROMPT, max_tokens=3)
    assert (again.prefilled.cached_tokens, isinstance(again.steps[-2], Measured)) == (64, True)


def test_its_kv_cache_is_counted_while_steps_come_without_a_pause(
    engine: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorrt_llm.executor.worker.STEP_S", 0.02)
    run = engine.start_endless("counted", prompt=PROMPT)
    wait_until(lambda: engine.stats().kv_used, "blocks are counted")
    assert (engine.stats().kv_total, engine.stats().active) == (1024, 1)
    engine.abort("counted")
    run.wait()


def test_roles_that_the_template_does_not_know_are_refused(engine: Driver) -> None:
    with pytest.raises(RequestError) as caught:
        engine.run(messages=[frames.Message(role="tool", content="x")])
    assert (caught.value.reason, caught.value.param) == ("invalid_prompt", "messages")


def test_a_request_that_the_engine_refuses_ends_alone(engine: Driver) -> None:
    with pytest.raises(RequestError, match="TensorRT-LLM says: the engine does not like it"):
        engine.run(prompt="[[refuse]]")
    assert engine.run(prompt="Hello", max_tokens=2).finished.tokens == 2


def test_an_error_that_is_nobodys_own_is_no_requests_error() -> None:
    """The child ends by it: only a new process can be trusted."""
    driver = Driver(plan())
    try:
        with pytest.raises(RuntimeError, match="illegal memory access"):
            driver.run(prompt="[[fatal]]")
    finally:
        driver.close()


def test_another_version_is_told_with_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorrt_llm

    monkeypatch.setattr(tensorrt_llm, "__version__", "1.4.0rc1")
    monkeypatch.setattr(signatures, "differences", lambda: ["there is no tensorrt_llm.LLM.swim"])
    driver = Driver(plan())
    driver.close()
    (told,) = [fields for action, fields in driver.narrated if action == "engine_version"]
    assert told == {
        "engine": "TensorRT-LLM", "version": "1.4.0rc1", "known": "1.2",
        "differences": ": there is no tensorrt_llm.LLM.swim",
    }  # fmt: skip


def test_a_model_of_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["ExoticForCausalLM"]}')
    with pytest.raises(LoadError) as caught:
        Driver(plan(str(tmp_path)))
    assert (caught.value.reason, "ExoticForCausalLM" in caught.value.why) == ("ModelNotSupported", True)


def test_an_option_is_judged_before_the_import() -> None:
    code = (
        "import asyncio, sys; from rhapsode_worker.engines import *; from rhapsode_worker.errors import LoadError\n"
        "plan = LoadPlan(engine='TensorRTLLM', model='m', options={'kvCacheFraction': 2})\n"
        "try: asyncio.run(make_engine('TensorRTLLM').load(plan, print))\n"
        "except LoadError as exc: print(exc.reason, exc.why, 'tensorrt_llm' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=fakes_environ(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "BadEngineOption option 'kvCacheFraction' of TensorRTLLM is 2 False\n", done.stderr

"""What every engine promises of probabilities: one for each token, and the same text with them as without."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rhapsode_contract import frames
from rhapsode_worker.composing import LOWEST, tell_logprob
from rhapsode_worker.engines import ENGINES
from rhapsode_worker.errors import RequestError
from support.engines import Driver, plan_of
from support.fake_tensorrt import lent

NEARLY = 0.3
"""OpenVINO rounds what it keeps of a prompt: what it computes anew is not quite what was in its cache."""
LONG = "Once upon a time there was a rhapsode who walked from city to city, and"


@pytest.fixture(scope="module", params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> Iterator[Driver]:
    with lent():
        driver = Driver(plan_of(request.param))
        yield driver
        driver.close()


def told(engine: Driver, **wishes: object) -> list[float]:
    """Return what is told of each token, in order."""
    pieces = engine.run(prompt=LONG, logprobs=True, **wishes).pieces
    assert all(len(piece.logprobs) == piece.tokens for piece in pieces)
    return [value for piece in pieces for value in piece.logprobs]


def test_every_token_has_one_and_the_same_request_nearly_the_same(engine: Driver) -> None:
    assert engine.caps.logprobs
    first = told(engine, max_tokens=16)
    assert len(first) <= 16
    assert all(LOWEST <= value <= 0 for value in first)
    assert len(set(first)) > 2, "not one for all"
    assert told(engine, max_tokens=16) == pytest.approx(first, abs=NEARLY)


def test_who_asks_for_none_gets_none(engine: Driver) -> None:
    assert not any(piece.logprobs for piece in engine.run(prompt=LONG, max_tokens=8).pieces)


def test_a_guided_and_a_drawn_answer_have_them_too(engine: Driver) -> None:
    assert all(value <= 0 for value in told(engine, max_tokens=12, temperature=1.5, seed=7))
    if engine.caps.regex:
        assert len(told(engine, max_tokens=12, regex="[0-9]{8}")) >= 1


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(size=st.integers(1, 24), begin=st.integers(0, 40), length=st.integers(1, 6))
def test_the_text_and_its_end_are_the_same_with_them_whatever_stops_it(
    engine: Driver, size: int, begin: int, length: int
) -> None:
    whole = engine.run(prompt=LONG, max_tokens=size).text
    stop = [whole[begin : begin + length]] if whole[begin : begin + length] else []
    bare = engine.run(prompt=LONG, max_tokens=size, stop=stop)
    full = engine.run(prompt=LONG, max_tokens=size, stop=stop, logprobs=True)
    assert (full.text, full.finished) == (bare.text, bare.finished)
    assert [piece[:2] for piece in full.pieces] == [piece[:2] for piece in bare.pieces]
    assert all(len(piece.logprobs) == piece.tokens for piece in full.pieces)


def test_openvino_tells_what_the_model_thinks_whatever_the_temperature_and_the_penalties() -> None:
    driver = Driver(plan_of("OpenVINO"))
    greedy = told(driver, max_tokens=1)
    hot = told(driver, max_tokens=1, temperature=2.0, top_k=1, seed=3)
    penalised = told(driver, max_tokens=1, presence_penalty=1.5)
    driver.close()
    assert greedy[0] < -1, "a certain token would say the same at any temperature"
    assert hot == pytest.approx(greedy, abs=NEARLY)
    assert penalised == pytest.approx(greedy, abs=NEARLY)


def test_a_tensorrt_llm_that_leaves_the_chosen_token_out_fails_the_request_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with lent():
        from tensorrt_llm.executor import worker

        driver = Driver(plan_of("TensorRTLLM"))
        monkeypatch.setattr(worker, "_logprobs", lambda _sequence, tokens: [{} for _ in tokens])
        with pytest.raises(RequestError) as caught:
            driver.run(prompt=LONG, max_tokens=4, logprobs=True)
        driver.close()
    assert (caught.value.reason, caught.value.param) == ("engine_refused", "logprobs")


@pytest.mark.parametrize(
    ("value", "said"), [(-0.5, -0.5), (1e-7, 0.0), (0.0, 0.0), (float("-inf"), LOWEST), (float("nan"), LOWEST), (-1e6, LOWEST)]
)  # fmt: skip
def test_what_is_told_is_always_a_number_that_json_knows(value: float, said: float) -> None:
    assert tell_logprob(value) == said


def test_an_engine_of_an_older_worker_has_none() -> None:
    assert not frames.Caps().logprobs

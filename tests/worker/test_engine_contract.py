"""What every engine promises. One suite; an engine that is not here is not one of ours."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rhapsode_contract import frames
from rhapsode_worker.engines import ENGINES
from rhapsode_worker.errors import LoadError, RequestError
from support.engines import CONTEXT, ENDLESS, SLOTS, Driver, plan_of
from support.fake_tensorrt import lent

LONG = "Once upon a time there was a rhapsode who walked from city to city, and"
Make = Callable[..., Driver]


@pytest.fixture(scope="module", autouse=True)
def packages() -> Iterator[None]:
    """TensorRT-LLM is a stand-in: what is proven is our side of it."""
    with lent():
        yield


@pytest.fixture(scope="module", params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """A loaded engine with two slots; tests leave it idle."""
    driver = Driver(plan_of(request.param))
    yield driver
    driver.close()


def chat(text: str) -> list[frames.Message]:
    return [frames.Message(role="user", content=text)]


def test_it_says_what_it_can(engine: Driver) -> None:
    assert (engine.caps.slots, engine.caps.context_tokens) == (SLOTS, CONTEXT)


def test_it_tells_its_load_with_actions_of_the_catalogue(engine: Driver) -> None:
    from rhapsode_contract.catalogue import CATALOGUE

    assert all(CATALOGUE[action].audience == "lifecycle" for action, _ in engine.narrated)


@pytest.mark.parametrize(
    "wish", [{"prompt": "Once upon a time"}, {"messages": chat("Hello!")}], ids=["prompt", "chat"]
)
def test_a_request_is_prefilled_then_speaks_then_finishes(engine: Driver, wish: dict[str, Any]) -> None:
    run = engine.run(max_tokens=8, **wish)
    assert run.prefilled.prompt_tokens > 0
    assert all(piece.text and piece.tokens >= 1 for piece in run.pieces)
    assert run.finished.reason in ("stop", "length")
    assert sum(piece.tokens for piece in run.pieces) <= run.finished.tokens <= 8


def test_it_stops_at_max_tokens(engine: Driver) -> None:
    for tokens in (1, 7, 20):
        finished = engine.run(prompt=LONG, max_tokens=tokens).finished
        assert (finished.reason, finished.tokens) == ("length", tokens)


def test_tokens_come_one_by_one_as_they_are_made(engine: Driver) -> None:
    run = engine.start_endless("long", prompt=LONG)
    engine.wait_pieces(run, 12)
    assert not run.future.done(), "not when all are made"
    engine.abort("long")
    run.wait()
    assert max(len(step) if isinstance(step, list) else 1 for step in run.steps) == 1


def test_exact_sampling_is_repeatable(engine: Driver) -> None:
    assert engine.run(prompt=LONG, max_tokens=20).text == engine.run(prompt=LONG, max_tokens=20).text


def test_the_same_seed_gives_the_same_text_and_another_another(engine: Driver) -> None:
    def text(seed: int) -> str:
        return engine.run(prompt=LONG, max_tokens=24, temperature=1.0, seed=seed).text

    assert text(7) == text(7)
    assert len({text(seed) for seed in range(1, 5)}) > 1


def test_no_part_of_a_stop_string_is_ever_said(engine: Driver) -> None:
    """Stop strings are cut out of the answer itself, so that they lie across tokens in every way."""
    whole = engine.run(prompt=LONG, max_tokens=24).text
    for begin, size in itertools.product(range(2, len(whole) - 8, 7), (1, 3, 8)):
        stop = whole[begin : begin + size]
        run = engine.run(prompt=LONG, max_tokens=24, stop=[stop, "never said"])
        assert run.text == whole[: whole.index(stop)]
        assert run.finished.reason == "stop"


def test_a_stop_string_that_never_comes_holds_nothing_back_for_good(engine: Driver) -> None:
    whole = engine.run(prompt=LONG, max_tokens=24).text
    almost = whole[-3:] + "…never"
    assert engine.run(prompt=LONG, max_tokens=24, stop=[almost]).text == whole


def test_a_character_split_across_tokens_comes_whole(engine: Driver) -> None:
    hard = "日本語 🌅 naïve 👩‍👧"
    if engine.caps.json_schema:
        run = engine.run(prompt="Say it.", max_tokens=60, json_schema={"type": "string", "enum": [hard]})
        assert hard in run.text
    else:
        run = engine.run(prompt=LONG, max_tokens=300)
        assert any(ord(char) > 127 for char in run.text)
    assert "\ufffd" not in run.text
    assert any(piece.tokens > 1 for piece in run.pieces), "some character took more than one token"


def test_requests_beyond_the_slots_wait_and_all_finish(engine: Driver) -> None:
    runs = [engine.start(prompt=f"{LONG} {at}", max_tokens=20) for at in range(SLOTS + 3)]
    engine.wait_pieces(runs[0], 1)
    stats = engine.stats()
    assert stats.active <= SLOTS
    assert stats.active + stats.queued <= SLOTS + 3
    for run in runs:
        assert run.wait().finished.tokens == 20
    assert engine.stats().active == engine.stats().queued == 0


def test_an_abort_ends_the_request_and_frees_its_slot(engine: Driver) -> None:
    running = [engine.start_endless(f"long-{at}", prompt=f"{LONG} {at}") for at in range(SLOTS)]
    for run in running:
        engine.wait_pieces(run, 2)
    waiting = engine.start(prompt="Hello", max_tokens=3)
    engine.abort("long-0")
    assert running[0].wait().finished.reason == "cancelled"
    assert waiting.wait().finished.tokens > 0
    engine.abort("long-1")
    assert running[1].wait().finished.reason == "cancelled"
    assert running[1].finished.tokens < ENDLESS


def test_an_abort_of_one_that_waits_ends_it_unheard(engine: Driver) -> None:
    running = [engine.start_endless(f"long-{at}", prompt=f"{LONG} {at}") for at in range(SLOTS)]
    for run in running:
        engine.wait_pieces(run, 1)
    waiting = engine.start("waits", prompt="Hello", max_tokens=3)
    engine.abort("waits")
    assert waiting.wait().finished == ("cancelled", 0)
    for at in range(SLOTS):
        engine.abort(f"long-{at}")
        running[at].wait()


def test_an_abort_of_nobody_is_harmless(engine: Driver) -> None:
    engine.abort("nobody")
    assert engine.run(prompt="Hello", max_tokens=2).finished.tokens > 0


def test_a_prompt_that_does_not_fit_is_refused_and_the_next_is_served(engine: Driver) -> None:
    with pytest.raises(RequestError) as caught:
        engine.run(prompt="word " * (CONTEXT + 1))
    assert (caught.value.reason, caught.value.param) == ("context_length_exceeded", "prompt")
    assert str(CONTEXT) in caught.value.why
    assert engine.run(prompt="Hello", max_tokens=2).finished.tokens > 0


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_an_unknown_option_fails_the_load_and_is_named(name: str) -> None:
    with pytest.raises(LoadError) as caught:
        Driver(plan_of(name, options={"warpFactor": 9}))
    assert caught.value.reason == "BadEngineOption"
    assert "warpFactor" in str(caught.value)


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_closing_ends_who_runs_as_cancelled(name: str) -> None:
    driver = Driver(plan_of(name))
    runs = [driver.start_endless(prompt=f"{LONG} {at}") for at in range(SLOTS + 1)]
    driver.wait_pieces(runs[0], 1)
    driver.close()
    for run in runs:
        assert run.finished.reason == "cancelled"

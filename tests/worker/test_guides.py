"""What engines promise of guides: kept to, or refused; and a hostile one is nobody's trouble but its own."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from rhapsode_contract.guides import GUIDE_WORDS
from rhapsode_worker.engines import ENGINES
from rhapsode_worker.errors import RequestError
from support.engines import CONTEXT, Driver, plan_of
from support.fake_tensorrt import lent
from support.processes import held

LONG = "Once upon a time there was a rhapsode who walked from city to city, and"
KEPT: list[tuple[str, Any, str]] = [
    ("json_schema", {"type": "string", "enum": ["naïve 🌅"]}, '"naïve 🌅"'),
    ("regex", "[0-9]{3}-[a-c]{2}", "[0-9]{3}-[a-c]{2}"),
    ("regex", "(Zürich|Genf), 日本", "(Zürich|Genf), 日本"),
    ("grammar", 'root ::= "yes, " place | "no"\nplace ::= "Delphi"', "yes, (Delphi)?|no"),
]
BROKEN: list[tuple[str, Any]] = [
    ("json_schema", {"type": "nonsense"}),
    ("json_schema", {"$ref": "#/nope"}),
    ("regex", "(["),
    ("regex", "a{2,1}"),
    ("grammar", "nonsense"),
    ("grammar", "root ::= nope"),
]
HOSTILE: dict[str, list[tuple[str, Any, str]]] = {
    "OpenVINO": [
        ("regex", "(.|..|...){50,500}x", "takes more than 2 s"),  # compiles for minutes
        ("regex", "(((((a*)*)*)*)*)*b", "takes more than 2 s"),  # every token takes longer than the one before
        ("grammar", "root ::= " + "(" * 32_000 + '"a"' + ")" * 32_000, "its compiler failed"),  # overflows the stack
    ],
    "TensorRTLLM": [
        ("regex", "[[hang]]", "takes more than 2 s"),
        ("grammar", 'root ::= "[[crash]]"', "its compiler failed"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(HOSTILE))
def engine(request: pytest.FixtureRequest) -> Iterator[Driver]:
    with lent():
        driver = Driver(plan_of(request.param))
        yield driver
        driver.close()


def assert_refused(engine: Driver, kind: str, guide: Any, words: str = "") -> None:
    with pytest.raises(RequestError) as caught:
        engine.run(prompt="x", **{kind: guide})
    assert (caught.value.reason, caught.value.param) == (f"invalid_{kind}", kind)
    assert GUIDE_WORDS[kind] in caught.value.why  # type: ignore[index]
    assert words in caught.value.why
    assert ".cc" not in caught.value.why


@contextlib.contextmanager
def checks_held(engine: Driver) -> Iterator[None]:
    """Let the process that tries guides stand still meanwhile: no guide is refused before the test is ready for it."""
    engine.run(prompt="x", regex="[0-9]", max_tokens=2)  # then the process is there
    guides: Any = engine.engine._guides  # type: ignore[attr-defined]
    pid = getattr(guides, "_checks", guides)._process.pid
    with held(pid):
        yield


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_an_engine_says_which_guides_it_keeps_to(name: str) -> None:
    with lent():
        driver = Driver(plan_of(name))
        driver.close()
    assert {getattr(driver.caps, kind) for kind in GUIDE_WORDS} == {name in HOSTILE}


@pytest.mark.parametrize(("kind", "guide", "pattern"), KEPT)
def test_an_answer_keeps_to_its_guide(engine: Driver, kind: str, guide: Any, pattern: str) -> None:
    run = engine.run(prompt=LONG, max_tokens=60, **{kind: guide})
    assert re.fullmatch(pattern, run.text), run.text
    assert run.finished.reason == "stop"


def test_answers_with_and_without_guides_run_side_by_side(engine: Driver) -> None:
    runs = [engine.start(prompt=LONG, max_tokens=20, regex="[0-9]{4}"), engine.start(prompt=LONG, max_tokens=20)]
    assert re.fullmatch("[0-9]{4}", runs[0].wait().text)
    assert runs[1].wait().finished.tokens == 20


@pytest.mark.parametrize(("kind", "guide"), BROKEN)
def test_a_guide_that_is_none_ends_its_own_request_and_no_other(engine: Driver, kind: str, guide: Any) -> None:
    """Without care one bad guide makes an engine throw for everyone, for ever."""
    other = engine.start("other", prompt=LONG, max_tokens=60)
    engine.wait_pieces(other, 1)
    assert_refused(engine, kind, guide)
    assert other.wait().finished.tokens == 60


def test_good_and_bad_guides_that_come_together_are_told_apart(engine: Driver) -> None:
    bad = [engine.start(prompt="x", grammar="root ::= nope") for _ in range(2)]
    good = [engine.start(prompt=LONG, regex="[0-9]{4}") for _ in range(2)]
    for run in bad:
        with pytest.raises(RequestError):
            run.wait()
    assert all(re.fullmatch("[0-9]{4}", run.wait().text) for run in good)


def test_a_hostile_guide_is_refused_while_others_are_served_and_the_next_good_one_is_kept_to(engine: Driver) -> None:
    other = engine.start("other", prompt=LONG, max_tokens=CONTEXT // 2)
    engine.wait_pieces(other, 1)
    for kind, guide, words in HOSTILE[engine.plan.engine]:
        assert_refused(engine, kind, guide, words)
        assert engine.run(prompt=LONG, max_tokens=3).finished.tokens == 3
    assert other.wait().finished.tokens == CONTEXT // 2
    assert re.fullmatch("[0-9]{4}", engine.run(prompt=LONG, regex="[0-9]{4}").text)


@pytest.mark.parametrize(
    "guide",
    ["root ::= root", 'root ::= root root | "a" | ""', 'root ::= "a" root', 'root ::= ""', 'root ::= (("a"*)*)*'],
)
def test_a_grammar_that_goes_in_circles_ends_like_any_other(engine: Driver, guide: str) -> None:
    assert engine.run(prompt=LONG, max_tokens=20, grammar=guide).finished.tokens <= 20
    assert engine.run(prompt=LONG, max_tokens=3).finished.tokens == 3


def test_the_longest_grammar_is_kept_to(engine: Driver) -> None:
    words = [f'"word{at}"' for at in range(10_000)]
    grammar = ("root ::= " + " | ".join(words))[: 64 * 1024].rpartition(" |")[0]
    assert re.fullmatch("word[0-9]+", engine.run(prompt=LONG, grammar=grammar).text)


def test_an_abort_while_a_guide_is_tried_ends_the_request_unheard(engine: Driver) -> None:
    kind, guide, _ = HOSTILE[engine.plan.engine][0]
    with checks_held(engine):
        hostile = engine.start("hostile", prompt="x", **{kind: guide})
        behind = engine.start("behind", prompt="x", regex="[0-9]+")
        engine.abort("behind")
        engine.abort("hostile")
    assert [run.wait().finished for run in (hostile, behind)] == [("cancelled", 0)] * 2


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_closing_ends_who_waits_for_a_guide(name: str) -> None:
    with lent():
        driver = Driver(plan_of(name))
        kind, guide, _ = HOSTILE[name][0]
        with checks_held(driver):
            runs = [driver.start(prompt="x", **{kind: guide}), driver.start(prompt="x", regex="[0-9]+")]
            driver.close()
    assert [run.wait().finished for run in runs] == [("cancelled", 0)] * 2

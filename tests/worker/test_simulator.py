"""The simulator's text, and the script that it plays."""

import itertools

import pytest

from rhapsode_worker.engines.simulating import Script, read_script, simulated_text, words_of
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

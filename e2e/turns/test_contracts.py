"""A contract that is wrong is refused when it is applied, or stalls its worker: with the path and the rule."""

import pytest
from e2e.clusters import Body, until
from e2e.conftest import Apply
from e2e.tables import contract
from e2e.workers import worker

SINK = {"name": "kept", "url": "http://journal/kept"}


@pytest.mark.parametrize(
    ("wrong", "path", "words"),
    [
        (contract("a", SINK, SINK), "spec.outcomes[0].sinks", "expected sinks with different names"),
        (contract("a", SINK | {"url": "ftp://journal/"}), "spec.outcomes[0].sinks[0].url", "http"),
        (
            contract("a", normalize=[{"path": "/narrative", "fallback": "x"}]),
            "spec.outcomes[0].normalize[0].path",
            "the narrative is stored as it was streamed",
        ),
    ],
    ids=["names", "url", "narrative"],
)
def test_what_the_api_server_can_judge_is_refused_when_it_is_applied(
    apply: Apply, wrong: Body, path: str, words: str
) -> None:
    with pytest.raises(AssertionError) as refused:
        apply(worker("tale", outcomes=[wrong]))
    assert path in str(refused.value)
    assert words in str(refused.value)


def test_what_only_a_program_can_judge_stalls_the_worker_until_it_is_right(apply: Apply) -> None:
    good = contract("tale", SINK)
    schema = good["schema"] | {"required": "narrative"}
    stalled = apply(worker("tale", outcomes=[good | {"schema": schema}]))
    assert "spec.outcomes[0].schema.required: " in stalled.reason("InvalidSpec", "Stalled")["message"]
    template = good | {"prompt": good["prompt"] | {"intents": "{% if %}"}}
    apply(worker("tale", outcomes=[good, template | {"name": "torn"}]))
    words = "spec.outcomes[1].prompt.intents: line 1: "
    until(lambda: words in stalled.condition("Stalled").get("message", ""), f"{words} is told")
    apply(worker("tale", outcomes=[good])).ready()

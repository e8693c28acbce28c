"""What `kubectl rhapsode watch` tells who may not listen to pods: what the operator passes on in the status."""

from typing import Any

import pytest

from rhapsode.kubectl.transitions import transitions

JSON = dict[str, Any]
SAID = {"narration": {"text": "Ready after 10.1 s"}}
LOADED = {"load": {"summary": "loaded"}}


def worker(**status: Any) -> JSON:
    return {"metadata": {"name": "choir"}, "status": status}


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (SAID, ["Ready after 10.1 s"]),
        (LOADED, ["loaded"]),
        (SAID | LOADED, ["loaded", "Ready after 10.1 s"]),
        ({}, []),
    ],
    ids=["sentence", "figure", "both", "neither"],
)
def test_a_sentence_and_a_figure_are_both_told_also_when_they_come_at_once(now: JSON, told: list[str]) -> None:
    before = worker(load={"summary": "loading weights 43%"}, narration={"text": "Loading weights"})
    after = worker(**(before["status"] | now))
    assert [line.text for line in transitions(before, after, deaf=True)] == told
    assert list(transitions(before, after, deaf=False)) == []

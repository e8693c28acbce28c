"""`rhapsode play` with contracts of turns: what is wrong with one ends it with a line, and secrets come from a folder."""

from pathlib import Path
from typing import Any

import psutil
import pytest

from rhapsode_contract import names
from support.contracts import contract
from support.plays import play, written
from support.processes import manifest, playing


def serving(*contracts: dict[str, Any]) -> dict[str, Any]:
    resource = manifest()
    resource["spec"]["outcomes"] = list(contracts)
    return resource


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("sinks.0.url", "ftp://x", "spec.outcomes[0].sinks[0].url: expected an http:// or https:// URL"),
        ("sinks.0.part", "/intents/quest", "spec.outcomes[0].sinks[0].part: the schema has no /intents/quest"),
        ("prompt.narrative", "{{ x", "spec.outcomes[0].prompt.narrative: line 1: "),
    ],
)
def test_a_contract_that_is_wrong_is_one_line_with_its_path_and_rule(
    tmp_path: Path, path: str, value: Any, words: str
) -> None:
    done = play(written(tmp_path, serving(contract(path, value))))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_secrets_come_from_a_folder(tmp_path: Path) -> None:
    with playing(serving(contract()), "--secrets", str(tmp_path)) as running:
        running.wait_ready()
        (relay,) = running.pids("rhapsode_relay")
        assert psutil.Process(relay).environ()[names.ENV_SECRETS] == str(tmp_path)


def test_a_folder_of_secrets_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    done = play(written(tmp_path, serving(contract())), "--secrets", tmp_path / "none")
    assert done.returncode == 2
    assert f"argument --secrets: {tmp_path}/none is no folder" in done.stderr

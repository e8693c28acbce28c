"""What docs/turns.md says in tables holds: each row of normalizing is run, and no code, phase or limit is left out."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import msgspec
import pytest
import yaml

from rhapsode_contract.names import MAX_COMMAND_BYTES
from rhapsode_contract.outcomes import NormalizeRule, TurnLimits
from rhapsode_contract.turns import MAX_TURN_BYTES
from rhapsode_relay.phases import StreamPhase
from rhapsode_relay.turns.checking import MAX_BYTES, MAX_DEPTH, MAX_VALUES
from rhapsode_relay.turns.failing import STATUSES
from rhapsode_relay.turns.normalizing import normalize
from rhapsode_relay.turns.reaching import MAX_ANSWER_BYTES
from support.documents import ROOT, blocks

PAGE = (ROOT / "docs/turns.md").read_text()


class Row(NamedTuple):
    """One row of the table of normalizing."""

    rule: Any
    before: Any
    after: Any
    change: Any


def rows() -> Iterator[Row]:
    rule: Any = None
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and (cells[0].startswith("`{path") or cells[0] == "the same"):
            values = [yaml.safe_load(cell.strip("`")) for cell in cells]
            rule = rule if cells[0] == "the same" else values[0]
            yield Row(rule, *values[1:])


ROWS = list(rows())


def test_the_table_of_normalizing_has_rows() -> None:
    assert len(ROWS) >= 8


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.before))
def test_each_row_of_normalizing_holds(row: Row) -> None:
    outcome = {"narrative": "x", "intents": row.before}
    changes = normalize(outcome, [msgspec.convert(row.rule, NormalizeRule)])
    assert outcome == {"narrative": "x", "intents": row.after}
    assert msgspec.to_builtins(changes) == ([] if row.change == "none" else [row.change])


@pytest.mark.parametrize("code", STATUSES)
def test_each_way_in_which_a_turn_fails_has_its_row(code: str) -> None:
    assert f"| `{code}` | {STATUSES[code]} |" in PAGE


@pytest.mark.parametrize("phase", get_args(StreamPhase))
def test_each_phase_of_a_stream_is_named(phase: str) -> None:
    assert f"`{phase}`" in PAGE


def test_limits_are_those_of_the_contract() -> None:
    said = " ".join(PAGE.split())
    for name, default in msgspec.to_builtins(TurnLimits()).items():
        assert f"`{name}` {'64 KiB' if name == 'narrativeBytes' else default}" in said
    assert MAX_TURN_BYTES == MAX_BYTES == MAX_ANSWER_BYTES == 256 * 1024 <= MAX_COMMAND_BYTES
    assert f"{MAX_DEPTH} levels and {MAX_VALUES:,} values" in said


def test_the_contract_of_the_page_is_the_one_that_is_played() -> None:
    [block] = [one for one in blocks("yaml") if one.document == "docs/turns.md"]
    played = (ROOT / "examples/scene.yaml").read_text()
    assert re.sub(r"\A#.*\n", "", played) == block.text

"""What came of a turn: the outcome, put right and judged. Called by `running`. Pure."""

from typing import Any, NamedTuple

from rhapsode_contract.results import Change
from rhapsode_relay.turns.checking import Unreadable, read_intents
from rhapsode_relay.turns.contracts import Contract
from rhapsode_relay.turns.normalizing import normalize


class Verdict(NamedTuple):
    """An outcome with what was changed in it, or what is wrong with it."""

    outcome: dict[str, Any]
    changes: list[Change]
    problems: list[str]


def judge(contract: Contract, narrative: str, intents: str) -> Verdict:
    """Return the outcome of a narrative, which is never changed, and of the text of its intents."""
    try:
        outcome = {"narrative": narrative, "intents": read_intents(intents)}
    except Unreadable as exc:
        return Verdict({}, [], [str(exc)])
    changes = normalize(outcome, contract.outcome.normalize)
    return Verdict(outcome, changes, contract.checker.problems(outcome))

"""How one action of the narration catalogue is told. Called by `catalogue` and the tables that it joins."""

from typing import Any, Literal, NamedTuple

from rhapsode_contract.frames import Level
from rhapsode_contract.wording import fields_of

Audience = Literal["lifecycle", "request"]


class Entry(NamedTuple):
    """How one action is told. `target` names the field that says what it happens to."""

    action: str
    actor: str
    level: Level
    audience: Audience
    human: str
    cute: str = ""
    story: str = ""
    target: str = ""

    @property
    def fields(self) -> frozenset[str]:
        """All fields that the words can use, and the target's."""
        needed, optional = fields_of("".join((self.human, self.cute, self.story)))
        return needed | optional | ({self.target} if self.target else set())


def tell_of_life(action: str, actor: str, human: str, cute: str = "", story: str = "", **extra: Any) -> Entry:
    """Return an entry about the worker's life."""
    return Entry(action, actor, extra.pop("level", "info"), "lifecycle", human, cute, story, **extra)


def tell_of_request(action: str, actor: str, human: str, cute: str = "", story: str = "", **extra: Any) -> Entry:
    """Return an entry about one request."""
    return Entry(action, actor, extra.pop("level", "info"), "request", human, cute, story, **extra)

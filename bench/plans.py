"""What a run sends. Shared by source, client and the command."""

import sys
from typing import NamedTuple

import msgspec


class Plan(NamedTuple):
    """`streams` streams of `tokens` tokens each.

    `rate` tokens a second each, spread over time; 0 is as fast as the reader takes them. `batch` tokens are
    written at once: 1 is one system call a token. `stamp` makes each token carry the moment it was written.
    """

    streams: int
    tokens: int
    rate: float = 0
    batch: int = 1

    @property
    def stamp(self) -> bool:
        return self.rate > 0


def read_plan(text: str) -> Plan:
    return Plan(*msgspec.json.decode(text))


def write_plan(plan: Plan) -> str:
    return msgspec.json.encode(list(plan)).decode()


def say(text: str) -> None:
    """Tell the parent something: one line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()

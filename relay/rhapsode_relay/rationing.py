"""What the clients of one key may take up: streams at once, requests a minute. Called by `limiting`. Pure.

Each replica counts for itself: to count together they would have to ask each other before each request.
"""

import math
from dataclasses import dataclass, field

from rhapsode_contract.access import KeyLimits


@dataclass
class Bucket:
    """A token bucket: a minute's worth at once, refilled evenly."""

    per_minute: int
    left: float
    at: float

    def take(self, now: float) -> float:
        """Take one; return 0, or in how many seconds there is one."""
        self.left = min(self.per_minute, self.left + (now - self.at) * self.per_minute / 60)
        self.at = now
        if self.left < 1:
            return (1 - self.left) * 60 / self.per_minute
        self.left -= 1
        return 0.0

    def give_back(self) -> None:
        self.left = min(self.per_minute, self.left + 1)


@dataclass
class Rations:
    """What each key has taken of what it may."""

    limits: KeyLimits
    streams: dict[str, int] = field(default_factory=dict)
    """Open streams, by the name of the key."""
    _buckets: dict[str, Bucket] = field(default_factory=dict)

    def has_place(self, key_name: str) -> bool:
        """Return whether a key may open another stream."""
        return self.streams.get(key_name, 0) < (self.limits.streams or math.inf)

    def open(self, key_name: str) -> None:
        self.streams[key_name] = self.streams.get(key_name, 0) + 1

    def close(self, key_name: str) -> None:
        self.streams[key_name] -= 1
        if not self.streams[key_name]:
            del self.streams[key_name]

    def take(self, key_name: str, now: float) -> float:
        """Count a request; return 0, or in how many seconds it may come again."""
        rate = self.limits.requests_per_minute
        if rate is None:
            return 0.0
        return self._buckets.setdefault(key_name, Bucket(rate, rate, now)).take(now)

    def give_back(self, key_name: str) -> None:
        """A request was not taken, for a reason of ours."""
        if bucket := self._buckets.get(key_name):
            bucket.give_back()

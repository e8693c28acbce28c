"""A stream in other protocols than our own: OpenAI's, AG-UI's, Vercel's.

A dialect is told the events of a stream and says what its clients get for them. It is pure, and knows neither
sockets nor jobs; `translating` puts one between a reader and its connection.
"""

from collections.abc import Mapping
from typing import Protocol

from rhapsode_contract import events


class Dialect(Protocol):
    """What one stream says in one protocol; made anew for each stream."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer, beside those of every stream."""

    def tell(self, event: events.StreamEvent) -> bytes:
        """Return what the client gets for an event; nothing for those that have no word in this protocol."""

    def beat(self) -> bytes:
        """Return what is said in silence, so that nobody takes the connection for dead."""

    def part(self) -> bytes:
        """Return the last words of a stream that ends before its job: the relay ends, or the client was too slow."""

"""All that a relay has to do with other replicas, put together. Made by `__main__`, called by `app`."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rhapsode_contract.frames import Narration
from rhapsode_contract.records import log_narration
from rhapsode_relay.calling import Caller
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.errors import Misdirected
from rhapsode_relay.forwarding import Forwarder, this_request
from rhapsode_relay.handing_over import ASK_S, Exchange, Scout, hop_of
from rhapsode_relay.joining import Choir
from rhapsode_relay.passing import Passages
from rhapsode_relay.peers import ListedPeers, Peers, Resolver, ServicePeers, absolute_name, look_up
from rhapsode_relay.reading import Reader
from rhapsode_relay.settings import RelaySettings

_RESOLVER = Path("/etc/resolv.conf")


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The other replicas, as the routes of the client port need them."""

    own: str
    peers: Peers
    caller: Caller
    passages: Passages
    forwarder: Forwarder
    exchange: Exchange
    choir: Choir

    def hop(self) -> str:
        """Return which replica sent this request here; empty if a client did. Raises Misdirected for ourselves."""
        hop = hop_of()
        if hop == self.own:
            raise Misdirected(f"{self.own} called itself")
        return hop

    def join(self, reader: Reader) -> None:
        """Let the reader of a correlation id hear the other replicas too."""
        self.choir.join(reader, this_request())

    def handed_over(self) -> int:
        """Return how many requests that others take or took are still to be answered through us."""
        return self.passages.handed_over

    async def close(self) -> None:
        """Let every client come back through another replica."""
        self.passages.dismiss()
        await self.caller.close()


def meet_neighbours(
    settings: RelaySettings, house: Conductor, logger: logging.Logger, renew: Callable[[bytes], bytes]
) -> Neighbours | None:
    """Return the other replicas, None for a relay that is alone; `renew` is `Caller`'s."""
    if not settings.peers:
        return None
    own = settings.worker_id
    peers = _find_peers(settings)
    caller = Caller(own, 3 * settings.heartbeat_s + 5, renew, settings.peer_slack)
    passages = Passages(house.counts, settings.stall_s)
    scout = Scout(own, peers, caller, settings.queue_limit, ASK_S * settings.peer_slack)

    def log(narration: Narration, correlation_id: str) -> None:
        log_narration(logger, narration, correlation_id)

    return Neighbours(
        own=own,
        peers=peers,
        caller=caller,
        passages=passages,
        forwarder=Forwarder(own, peers, caller, passages, log),
        exchange=Exchange(scout, caller, passages, log),
        choir=Choir(peers, caller, house.counts),
    )


def _find_peers(settings: RelaySettings) -> Peers:
    if isinstance(settings.peers, str):
        service = absolute_name(settings.peers, _RESOLVER.read_text() if _RESOLVER.is_file() else "")
        return ServicePeers(settings.worker_id, settings.name, service, settings.port, Resolver(look_up).look_up)
    return ListedPeers(settings.worker_id, settings.peers)

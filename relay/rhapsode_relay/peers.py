"""Who the other replicas are, and which of them owns a job. Called by `neighbours` and what it is made of.

A job's id says where it lives: `<worker>-<16 characters>`. That id comes from a client, so it is never taken for
a host: it only chooses among names that we know. In a cluster these are the pods of our own resource
(`<resource>-<ordinal>`, by DNS of the headless Service), elsewhere they stand in a list.
"""

import asyncio
import math
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

from rhapsode_contract import names

MAX_PEERS = 64
"""Replicas that one relay talks to; more are left out."""
LOOKUP_S = 2.0
"""How long anyone waits for the address of a name."""
BELIEVED_S = 1.0
"""How long an address is believed."""
MAX_LOOKUPS = 16
"""Names that are asked for at once; they share four threads, and a resolver that is dead holds one for a minute."""
_JOB_ID = re.compile(r"([a-z][-a-z0-9]{0,62})-[0-9a-hjkmnp-tv-z]{16}")
_ORDINAL = re.compile(r"0|[1-9][0-9]{0,2}")
_SERVICE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_ITEM = re.compile(r"([a-z][-a-z0-9]{0,62})=(\[[0-9a-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")
_SEARCH = re.compile(r"^search[ \t]+(.+)$", re.MULTILINE)
_OF_A_NAMESPACE = re.compile(r"[a-z0-9-]+\.svc\.[a-z0-9.-]*[a-z0-9]")
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class Address(NamedTuple):
    """Where a relay listens for clients."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


PeerPlan = Mapping[str, Address] | str
"""A list of relays by the id of their worker, or the name of a headless Service."""
Lookup = Callable[[str], Awaitable[list[str]]]
"""Return the addresses of a name, none if there is no such name. OSError: nobody can tell now."""


class Peers(Protocol):
    """Where the other replicas are."""

    def knows(self, worker_id: str) -> bool:
        """Return whether a replica may have this name. Decided without asking anyone."""
        ...

    async def find(self, worker_id: str) -> Address | None:
        """Return where a replica is, None if it is gone for good. OSError: nobody can tell now."""
        ...

    async def others(self) -> list[Address]:
        """Return where all others are, as far as it is known; perhaps we are among them."""
        ...

    def exclude(self, address: Address) -> None:
        """Learn that an address is our own."""
        ...


def parse_peers(text: str) -> PeerPlan:
    """Return what RHAPSODE_PEERS says. ValueError says what is wrong with it."""
    if "=" not in text:
        if _SERVICE.fullmatch(text):
            return text
        raise ValueError(f"{names.ENV_PEERS}: {text[:100]!r} is neither a Service nor a list of worker=host:port")
    return dict(map(_parse_item, text.split(",")))


def _parse_item(text: str) -> tuple[str, Address]:
    found = _ITEM.fullmatch(text.strip())
    if found is None or not 0 < int(found[3]) < 65536:
        raise ValueError(f"{names.ENV_PEERS}: {text[:100]!r} is not worker=host:port")
    return found[1], Address(found[2].strip("[]"), int(found[3]))


def absolute_name(service: str, resolv_conf: str) -> str:
    """Return the whole name of a Service of our namespace, as a pod's `/etc/resolv.conf` completes it.

    A short name that the cluster does not know is tried in the machine's domains too, where a wildcard may answer: a
    request would leave the cluster, key and all. A name that ends in a dot is asked for as it is.
    """
    found = _SEARCH.search(resolv_conf)
    domains = found[1].split() if found else []
    ours = next((domain for domain in domains if _OF_A_NAMESPACE.fullmatch(domain)), None)
    return f"{service}.{ours}." if ours and "." not in service else service


def owner_in(job_id: str) -> str | None:
    """Return the worker that a job id names; None if it is no id that any relay made."""
    found = _JOB_ID.fullmatch(job_id)
    return found[1] if found else None


class ListedPeers:
    """Replicas that stand in a list; our own entry is left out, so that all can have the same one."""

    def __init__(self, own: str, listed: Mapping[str, Address]) -> None:
        self._listed = {name: address for name, address in listed.items() if name != own}

    def knows(self, worker_id: str) -> bool:
        return worker_id in self._listed

    async def find(self, worker_id: str) -> Address | None:
        return self._listed.get(worker_id)

    async def others(self) -> list[Address]:
        return list(self._listed.values())[:MAX_PEERS]

    def exclude(self, address: Address) -> None:
        self._listed = {name: other for name, other in self._listed.items() if other != address}


class ServicePeers:
    """Replicas behind a headless Service, which gives each pod the name `<pod>.<service>`."""

    def __init__(self, own: str, resource: str, service: str, port: int, lookup: Lookup) -> None:
        self._own = own
        self._prefix = f"{resource}-"
        self._service = service
        self._port = port
        self._lookup = lookup
        self._mine: set[str] = set()

    def knows(self, worker_id: str) -> bool:
        ordinal = worker_id.removeprefix(self._prefix)
        return worker_id not in (self._own, ordinal) and _ORDINAL.fullmatch(ordinal) is not None

    async def find(self, worker_id: str) -> Address | None:
        hosts = await self._lookup(f"{worker_id}.{self._service}")
        return Address(hosts[0], self._port) if hosts else None

    async def others(self) -> list[Address]:
        try:
            if not self._mine:
                self._mine.update(await self._lookup(f"{self._own}.{self._service}"))
            hosts = await self._lookup(self._service)
        except OSError:
            return []
        return [Address(host, self._port) for host in hosts if host not in self._mine][:MAX_PEERS]

    def exclude(self, address: Address) -> None:
        self._mine.add(address.host)


class Resolver:
    """Asks for names: for each of them once at a time, however many want to know it, and once a second."""

    def __init__(self, ask: Lookup) -> None:
        self._ask = ask
        self._asking: dict[str, asyncio.Task[list[str]]] = {}
        self._known: dict[str, tuple[float, list[str]]] = {}

    async def look_up(self, name: str) -> list[str]:
        """Return the addresses of a name, see `Lookup`. Who waits no longer leaves the question to the others."""
        told_at, hosts = self._known.get(name, (-math.inf, []))
        if time.monotonic() - told_at < BELIEVED_S:
            return hosts
        async with asyncio.timeout(LOOKUP_S):
            return await asyncio.shield(self._asking.get(name) or self._begin(name))

    def _begin(self, name: str) -> asyncio.Task[list[str]]:
        if len(self._asking) >= MAX_LOOKUPS:
            raise OSError(f"{MAX_LOOKUPS} names are being looked up; the resolver is slow")
        self._asking[name] = asking = asyncio.create_task(self._find(name))
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to hear it
        return asking

    async def _find(self, name: str) -> list[str]:
        try:
            hosts = await self._ask(name)
        finally:
            del self._asking[name]
        self._known.pop(name, None)
        self._known[name] = time.monotonic(), hosts
        if len(self._known) > MAX_PEERS:
            del self._known[next(iter(self._known))]
        return hosts


async def look_up(name: str) -> list[str]:
    """Ask the resolver of this machine, however long it takes: a thread of ours waits for it in any case."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as exc:
        if exc.errno in _NO_SUCH_NAME:
            return []
        raise
    return list(dict.fromkeys(str(info[4][0]) for info in found))

"""Who the other replicas are. A name that a client brings only chooses among those that we know."""

import asyncio
import socket

import pytest

from rhapsode_contract import names
from rhapsode_contract.validating import decode_manifest
from rhapsode_relay.peers import (
    MAX_LOOKUPS,
    MAX_PEERS,
    Address,
    ListedPeers,
    Resolver,
    ServicePeers,
    absolute_name,
    look_up,
    owner_in,
    parse_peers,
)
from rhapsode_relay.registry import new_job_id
from rhapsode_relay.settings import RelaySettings
from support.processes import DEADLINE_S, manifest


class Names:
    """A DNS of the test's own, which keeps what it was asked."""

    def __init__(self, **known: list[str]) -> None:
        self.known = known
        self.asked: list[str] = []
        self.down = False

    async def look_up(self, name: str) -> list[str]:
        self.asked.append(name)
        if self.down:
            raise OSError("the resolver does not answer")
        return self.known.get(name.replace("-", "_").replace(".", "__"), [])


def service(known: Names, own: str = "chat-0") -> ServicePeers:
    return ServicePeers(own, "chat", "chat-pods", 8080, known.look_up)


@pytest.mark.parametrize("worker", ["sim", "smollm-0", "a-b-c-12"])
def test_every_id_that_a_relay_makes_names_its_owner(worker: str) -> None:
    assert owner_in(new_job_id(worker)) == worker


@pytest.mark.parametrize("name", ["chat-1", "chat-999", "chat-10"])
def test_pods_of_our_resource_are_known_unasked(name: str) -> None:
    known = Names()
    assert service(known).knows(name)
    assert known.asked == []


@pytest.mark.parametrize(
    "name",
    ["chat-0", "chat", "chat-", "chat-01", "chat-1000", "chat-x", "chat-1.evil", "other-1", "chat-1-1", "chat--1",
     "Chat-1", "chat-1\n", "", "chat-١", "xchat-1", "chat-1:80", "localhost"],
)  # fmt: skip
def test_nobody_else_is(name: str) -> None:
    assert not service(Names()).knows(name)


async def test_a_pod_is_found_by_its_name_and_one_without_a_name_is_gone() -> None:
    known = Names(chat_1__chat_pods=["10.0.0.7", "fd00::7"])
    assert await service(known).find("chat-1") == Address("10.0.0.7", 8080)
    assert await service(known).find("chat-2") is None
    known.down = True
    with pytest.raises(OSError, match="resolver"):
        await service(known).find("chat-1")


async def test_all_others_are_found_without_ourselves() -> None:
    known = Names(chat_pods=["10.0.0.1", "10.0.0.2", "fd00::3"], chat_0__chat_pods=["10.0.0.1"])
    peers = service(known)
    assert [str(one) for one in await peers.others()] == ["10.0.0.2:8080", "[fd00::3]:8080"]
    peers.exclude(Address("10.0.0.2", 8080))
    assert [one.host for one in await peers.others()] == ["fd00::3"]
    known.down = True
    assert await peers.others() == [], "then we are alone for now"


async def test_too_many_are_too_many() -> None:
    known = Names(chat_pods=[f"10.0.1.{n}" for n in range(200)])
    assert len(await service(known).others()) == MAX_PEERS


async def test_a_list_names_the_others_and_may_name_us() -> None:
    plan = parse_peers("a=127.0.0.1:1, b=[::1]:2,c-3=relay.local:3")
    assert not isinstance(plan, str)
    peers = ListedPeers("a", plan)
    assert [peers.knows(name) for name in ("a", "b", "c-3", "relay.local", "")] == [False, True, True, False, False]
    assert await peers.find("b") == Address("::1", 2)
    assert await peers.others() == [Address("::1", 2), Address("relay.local", 3)]
    peers.exclude(Address("::1", 2))
    assert await peers.others() == [Address("relay.local", 3)]


@pytest.mark.parametrize(
    "text", ["a=", "a=host", "a=host:0", "a=host:99999", "a=:1", "A=h:1", "a=h:1,", "a=h:1;b=h:2", "a b", "-x", "x/y",
             "a=http://h:1", "h:1", "a=h:1\nb=h:2"],
)  # fmt: skip
def test_what_makes_no_sense_is_named_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="RHAPSODE_PEERS"):
        RelaySettings.load(decode_manifest(manifest()), {names.ENV_PEERS: text})


def test_an_empty_one_means_that_we_are_alone() -> None:
    assert not RelaySettings.load(decode_manifest(manifest()), {names.ENV_PEERS: ""}).peers


async def test_the_resolver_of_this_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await look_up("localhost")

    async def gone(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def busy(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", gone)
    assert await look_up("chat-9.chat-pods") == []
    monkeypatch.setattr(loop, "getaddrinfo", busy)
    with pytest.raises(OSError, match="Temporary"):
        await look_up("chat-9.chat-pods")


RESOLV_CONF = """search team.svc.cluster.local svc.cluster.local cluster.local corp.example
nameserver 10.96.0.10
options ndots:5
"""


@pytest.mark.parametrize(
    ("service", "resolv_conf", "name"),
    [
        ("choir-pods", RESOLV_CONF, "choir-pods.team.svc.cluster.local."),
        (
            "choir-pods",
            RESOLV_CONF.replace("cluster.local", "k8s.corp.example"),
            "choir-pods.team.svc.k8s.corp.example.",
        ),
        ("choir-pods", "nameserver 10.0.0.1\nsearch corp.example\n", "choir-pods"),
        ("choir-pods", "", "choir-pods"),
        ("relays.internal.example", RESOLV_CONF, "relays.internal.example"),
    ],
)
def test_a_name_of_the_cluster_is_never_looked_for_outside(service: str, resolv_conf: str, name: str) -> None:
    assert absolute_name(service, resolv_conf) == name


class SlowNames:
    """A DNS that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = asyncio.Event()

    async def look_up(self, name: str) -> list[str]:
        self.asked.append(name)
        await self.answers.wait()
        return ["10.0.0.1"]


async def test_one_question_answers_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rhapsode_relay.peers.LOOKUP_S", DEADLINE_S)
    monkeypatch.setattr("rhapsode_relay.peers.BELIEVED_S", DEADLINE_S)
    slow = SlowNames()
    resolver = Resolver(slow.look_up)
    waiting = [asyncio.create_task(resolver.look_up("chat-pods")) for _ in range(100)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    slow.answers.set()
    await asyncio.wait(waiting)
    assert [task.result() for task in waiting[1:]] == [["10.0.0.1"]] * 99
    assert await resolver.look_up("chat-pods") == ["10.0.0.1"]
    assert slow.asked == ["chat-pods"], "nor is it asked again at once"
    monkeypatch.setattr("rhapsode_relay.peers.BELIEVED_S", 0)
    await resolver.look_up("chat-pods")
    assert slow.asked == ["chat-pods"] * 2


async def test_a_dead_resolver_is_given_up_and_not_asked_ever_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rhapsode_relay.peers.LOOKUP_S", 0.01)
    slow = SlowNames()
    resolver = Resolver(slow.look_up)
    for ordinal in range(100):
        with pytest.raises(OSError, match="^$" if ordinal < MAX_LOOKUPS else "the resolver is slow"):
            await resolver.look_up(f"chat-{ordinal}.chat-pods")
    with pytest.raises(TimeoutError):
        await resolver.look_up("chat-0.chat-pods")
    assert len(slow.asked) == MAX_LOOKUPS, "each of these holds a thread, or waits for one"
    slow.answers.set()
    monkeypatch.setattr("rhapsode_relay.peers.LOOKUP_S", DEADLINE_S)
    assert await resolver.look_up("chat-0.chat-pods") == ["10.0.0.1"]
    await asyncio.sleep(0)
    assert await resolver.look_up("chat-99.chat-pods") == ["10.0.0.1"]

"""Whether a watch that died quietly is noticed, and a healthy one never accused."""

import asyncio
from collections.abc import Iterator
from typing import Any

from rhapsode_contract.names import KIND
from rhapsode_operator.errors import GoneError, RetryableError
from rhapsode_operator.probing import Prober, Pulse
from support import virtual_time

A, B = (KIND, "ns", "a"), (KIND, "ns", "b")


def test_what_the_watch_told_before_the_answer_to_our_write_is_not_owed() -> None:
    pulse = Pulse()
    pulse.told(A, "12")
    pulse.expect(A, "11", 0)
    pulse.expect(A, "12", 0)
    assert pulse.overdue(1000) == 0


def test_a_change_that_the_watch_never_tells_is_owed_from_when_we_knew() -> None:
    pulse = Pulse()
    pulse.told(A, "9")
    pulse.expect(A, "10", 100)
    pulse.expect(A, "11", 150)
    assert pulse.overdue(160) == 60
    pulse.told(A, "10")
    assert pulse.overdue(160) == 60, "an older version is not what is owed"
    pulse.told(A, "12")
    assert pulse.overdue(160) == 0


def test_versions_are_numbers_and_not_words() -> None:
    pulse = Pulse()
    pulse.told(A, "100")
    pulse.expect(A, "99", 0)
    assert pulse.overdue(1000) == 0


def test_a_deletion_settles_every_debt() -> None:
    pulse = Pulse()
    pulse.expect(A, "10", 0)
    pulse.told(A, "11", deleted=True)
    assert pulse.overdue(1000) == 0


def test_a_debt_counts_only_while_the_api_server_answers() -> None:
    pulse = Pulse()
    pulse.expect(A, "10", 0)
    pulse.excuse(500)
    assert pulse.overdue(510) == 10


class Cluster:
    """What a prober reads: objects by name, two a page."""

    def __init__(self, **versions: int) -> None:
        self.versions = versions
        self.down = False
        self.expired = False

    async def list_metadata(
        self, kind: str, namespace: str, limit: int, go_on: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        self._answer()
        if go_on and self.expired:
            self.expired = False
            raise GoneError("the continuation is too old", reason="Expired", status=410)
        at = int(go_on or 0)
        names = sorted(self.versions)
        items = [
            {"namespace": "ns", "name": name, "resourceVersion": str(self.versions[name])}
            for name in names[at : at + 2]
        ]
        return items, str(at + 2) if at + 2 < len(names) else ""

    async def read(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        self._answer()
        return {} if name in self.versions else None

    def _answer(self) -> None:
        if self.down:
            raise RetryableError("connection refused", reason="NoNetwork")


def probe(cluster: Cluster, pulse: Pulse, steps: Iterator[Any]) -> None:
    """Probe every fifteen seconds, and do the next step after each."""

    async def scene() -> None:
        prober = Prober(cluster, pulse, ())
        for _ in steps:
            await prober.probe()
            await asyncio.sleep(15)

    virtual_time.run(scene())


def test_a_change_of_somebody_else_is_found_though_it_is_on_a_later_page() -> None:
    pulse, cluster = Pulse(), Cluster(a=1, b=2, c=3, d=4, e=5)
    for name, version in cluster.versions.items():
        pulse.told((KIND, "ns", name), str(version))

    def steps() -> Iterator[None]:
        for _ in range(4):
            yield
            assert pulse.overdue(9999) == 0
        cluster.versions["e"] = 6
        for _ in range(4):
            yield
        assert pulse.owed(9999, 15) == [(KIND, "ns", "e")]

    probe(cluster, pulse, steps())


def test_what_was_deleted_before_the_watch_told_of_it_is_not_owed() -> None:
    pulse, cluster = Pulse(), Cluster(a=1)

    def steps() -> Iterator[None]:
        yield
        assert pulse.owed(9999, 0) == [A]
        cluster.versions.clear()
        yield
        yield
        assert pulse.overdue(9999) == 0

    probe(cluster, pulse, steps())


def test_an_api_server_that_is_down_is_no_dead_watch() -> None:
    pulse, cluster = Pulse(), Cluster(a=1)

    async def scene() -> None:
        prober = Prober(cluster, pulse, ())
        await prober.probe()
        cluster.down = True
        for _ in range(100):
            await asyncio.sleep(15)
            await prober.probe()
        assert pulse.overdue(asyncio.get_running_loop().time()) == 0

    virtual_time.run(scene())


def test_a_continuation_that_expired_begins_anew() -> None:
    pulse, cluster = Pulse(), Cluster(a=1, b=1, c=1)

    def steps() -> Iterator[None]:
        yield
        cluster.expired = True
        yield
        yield
        yield
        assert len(pulse.owed(9999, 0)) == 3

    probe(cluster, pulse, steps())

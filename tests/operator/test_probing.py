"""Whether a watch that died quietly is noticed, and a healthy one never accused."""

import asyncio
from collections.abc import Callable

import pytest

from rhapsode_contract.names import KIND
from rhapsode_operator.errors import GoneError, RetryableError
from rhapsode_operator.probing import Named, Prober, Pulse
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
    """What a prober reads: resources by name, two a page whatever is asked for."""

    def __init__(self, **versions: int) -> None:
        self.versions = versions
        self.down = False
        self.expired = False
        self.takes = 0.0
        self.on_missing: Callable[[], None] = lambda: None
        """What happens while the answer that something is not there is on its way."""

    async def list_names(
        self, kind: str, namespace: str, limit: int, *, selector: str = "", go_on: str = ""
    ) -> tuple[list[tuple[str, str, str]], str]:
        self._answer()
        await asyncio.sleep(self.takes)
        if kind != KIND:
            assert selector == "rhapsode.dev/worker"
            return [], ""
        if go_on and self.expired:
            raise GoneError("the continuation is too old", reason="Expired", status=410)
        at, names = int(go_on or 0), sorted(self.versions)
        listed = [("ns", name, str(self.versions[name])) for name in names[at : at + 2]]
        return listed, str(at + 2) if at + 2 < len(names) else ""

    async def exists(self, kind: str, namespace: str, name: str) -> bool:
        self._answer()
        found = name in self.versions
        if not found:
            self.on_missing()
        return found

    def _answer(self) -> None:
        if self.down:
            raise RetryableError("connection refused", reason="NoNetwork")


class Scene:
    """A cluster, and a watch that tells what the test makes it tell."""

    def __init__(self, **versions: int) -> None:
        self.pulse, self.cluster = Pulse(), Cluster(**versions)
        self.ghosts: list[Named] = []
        self.prober = Prober(self.cluster, self.pulse, self, ())

    def tell_all(self) -> None:
        for name, version in self.cluster.versions.items():
            self.pulse.told((KIND, "ns", name), str(version))

    def vanished(self, named: Named) -> None:
        self.ghosts.append(named)
        self.pulse.told(named, "", deleted=True)

    async def probe(self, times: int = 1) -> None:
        for _ in range(times):
            await self.prober.probe()
            await asyncio.sleep(60)

    def overdue(self) -> float:
        return self.pulse.overdue(asyncio.get_running_loop().time())


def test_a_change_of_somebody_else_is_owed_though_it_is_on_a_later_page() -> None:
    async def play() -> None:
        scene = Scene(a=1, b=2, c=3, d=4, e=5)
        scene.tell_all()
        await scene.probe(5)
        assert scene.overdue() == 0
        scene.cluster.versions["e"] = 6
        await scene.probe(3)
        assert scene.overdue() == 180
        assert scene.pulse.owed(9999) == [(KIND, "ns", "e")]

    virtual_time.run(play())


def test_what_was_deleted_before_the_watch_told_of_it_is_not_owed() -> None:
    async def play() -> None:
        scene = Scene(a=1)
        await scene.probe()
        assert scene.overdue() == 60
        scene.cluster.versions.clear()
        await scene.probe()
        assert (scene.overdue(), scene.ghosts) == (0, [])

    virtual_time.run(play())


def test_what_was_deleted_while_the_watch_began_anew_is_found_and_told_once() -> None:
    async def play() -> None:
        scene = Scene(a=1, b=2)
        scene.tell_all()
        del scene.cluster.versions["a"]
        await scene.probe(3)
        assert scene.ghosts == [A]

    virtual_time.run(play())


@pytest.mark.parametrize("stood_still_s", [0, 60])
def test_what_the_watch_tells_a_moment_after_the_list_is_no_ghost(stood_still_s: float) -> None:
    """Nor if the operator stood still meanwhile: that time told it nothing."""

    async def play() -> None:
        scene = Scene(a=1)
        scene.tell_all()
        scene.cluster.versions.clear()
        probing = asyncio.create_task(scene.prober.probe())
        await asyncio.sleep(0.5)
        virtual_time.stand_still(stood_still_s)
        await asyncio.sleep(1)
        scene.pulse.told(A, "2", deleted=True)
        assert await probing
        assert scene.ghosts == []

    virtual_time.run(play())


def test_a_successor_that_is_told_of_before_the_answer_that_its_predecessor_is_gone_is_no_ghost() -> None:
    async def play() -> None:
        scene = Scene(a=1)
        scene.tell_all()
        scene.cluster.versions.clear()
        scene.cluster.on_missing = lambda: scene.pulse.told(A, "3")
        await scene.prober.probe()
        assert scene.ghosts == []

    virtual_time.run(play())


def test_what_appears_while_a_list_is_read_is_no_ghost() -> None:
    async def play() -> None:
        scene = Scene(a=1)
        scene.tell_all()
        scene.cluster.takes = 10
        listing = asyncio.create_task(scene.prober.probe())
        await asyncio.sleep(15)  # resources are listed, pods are not yet
        scene.pulse.told(B, "9")
        await listing
        assert scene.ghosts == []

    virtual_time.run(play())


def test_an_api_server_that_is_down_is_no_dead_watch() -> None:
    async def play() -> None:
        scene = Scene(a=1)
        await scene.probe()
        scene.cluster.down = True
        await scene.probe(100)
        assert scene.overdue() == 60

    virtual_time.run(play())


def test_a_list_that_took_too_long_accuses_nobody() -> None:
    async def play() -> None:
        scene = Scene(a=1, b=1, c=1)
        scene.tell_all()
        scene.cluster.expired = True
        await scene.probe(3)
        assert (scene.overdue(), scene.ghosts) == (0, [])

    virtual_time.run(play())


def test_the_beginning_waits_until_the_watch_has_told_of_everything() -> None:
    async def play() -> None:
        scene = Scene(a=1, b=2)
        scene.cluster.down = True
        syncing = asyncio.create_task(scene.prober.sync())
        await asyncio.sleep(5)
        scene.cluster.down = False
        scene.pulse.told(A, "1")
        await asyncio.sleep(5)
        assert not syncing.done()
        scene.pulse.told(B, "2")
        await asyncio.wait_for(syncing, 1)

    virtual_time.run(play())


def test_the_beginning_waits_for_nothing_that_was_deleted_meanwhile() -> None:
    async def play() -> None:
        scene = Scene(a=1)
        syncing = asyncio.create_task(scene.prober.sync())
        await asyncio.sleep(0.5)
        scene.cluster.versions.clear()
        await asyncio.wait_for(syncing, 5)

    virtual_time.run(play())


def test_the_beginning_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        await asyncio.wait_for(Scene(a=1).prober.sync(), 70)

    virtual_time.run(play())
    assert "has not told of InferenceWorker ns/a yet" in caplog.text

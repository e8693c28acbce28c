"""Who leads: with a Lease in memory, and clocks that differ."""

import asyncio
import copy
from typing import Any

import pytest

from rhapsode_operator import electing
from rhapsode_operator.electing import Elector, Lease
from rhapsode_operator.errors import CannotRun, RetryableError
from rhapsode_operator.settings import OperatorSettings
from support import virtual_time


class Shelf:
    """One Lease in memory, as an API server keeps it."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.version = 0
        self.down = False
        self.hangs = False
        self.homeless = False

    async def read_lease(self, namespace: str, name: str) -> Lease | None:
        await self._answer()
        return copy.deepcopy(self.lease)

    async def create_lease(self, body: Lease) -> Lease | None:
        await self._answer()
        if self.homeless:
            raise CannotRun("The namespace rhapsode does not exist")
        return self._keep(body) if self.lease is None else None

    async def replace_lease(self, body: Lease) -> Lease | None:
        await self._answer()
        if self.lease is None or body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            return None
        return self._keep(body)

    @property
    def holder(self) -> str:
        return str(self.lease["spec"]["holderIdentity"]) if self.lease else ""

    def _keep(self, body: Lease) -> Lease:
        self.version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)

    async def _answer(self) -> None:
        if self.hangs:
            await asyncio.sleep(3600)
        if self.down:
            raise RetryableError("connection refused", reason="NoNetwork")


def settings_of(identity: str, **changes: Any) -> OperatorSettings:
    return OperatorSettings(
        identity=identity, relay_image="", worker_image_cpu="", worker_image_tensorrt_llm="", **changes
    )


def elector(shelf: Any, identity: str, **changes: Any) -> Elector:
    return Elector(shelf, settings_of(identity, **changes))


def now() -> float:
    return asyncio.get_running_loop().time() - 1000


def test_the_first_of_two_leads_and_the_other_waits() -> None:
    async def scene() -> None:
        shelf = Shelf()
        first, second = elector(shelf, "one"), elector(shelf, "two")
        await asyncio.wait_for(first.acquire(), 1)
        keeper = asyncio.create_task(first.keep())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.acquire(), 600)
        assert (first.leading, second.leading, shelf.holder) == (True, False, "one")
        assert not keeper.done()
        keeper.cancel()

    virtual_time.run(scene())


def test_who_stands_by_says_so_once_for_each_leader(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "rhapsode.operator.lease")

    async def scene() -> None:
        shelf = Shelf()
        second = elector(shelf, "two")
        for leader in ("one", "three"):
            first = elector(shelf, leader)
            await first.acquire()
            for _ in range(5):
                assert not await second.try_acquire()
            await first.release()

    virtual_time.run(scene())
    told = ["one leads", "two stands by: one leads", "three leads", "two stands by: three leads"]
    assert [record.getMessage() for record in caplog.records] == told


def test_of_two_that_reach_for_a_free_lease_one_wins() -> None:
    async def scene() -> None:
        shelf = Shelf()
        both = [elector(shelf, "one"), elector(shelf, "two")]
        won = await asyncio.gather(*(each.try_acquire() for each in both))
        assert sorted(won) == [False, True]

    virtual_time.run(scene())


def test_a_dead_leader_is_followed_after_the_lease_and_not_before() -> None:
    async def scene() -> None:
        shelf = Shelf()
        await elector(shelf, "dead").acquire()
        second = elector(shelf, "two")
        await asyncio.wait_for(second.acquire(), 60)
        assert 15 <= now() <= 18
        assert shelf.lease is not None
        assert shelf.lease["spec"]["leaseTransitions"] == 1

    virtual_time.run(scene())


@pytest.mark.parametrize("skew", ["2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"])
def test_clocks_that_differ_by_years_change_nothing(skew: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(electing, "_moment", lambda: skew)

    async def scene() -> None:
        shelf = Shelf()
        first, second = elector(shelf, "one"), elector(shelf, "two")
        await first.acquire()
        keeper = asyncio.create_task(first.keep())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.acquire(), 100)
        keeper.cancel()
        began = now()
        await asyncio.wait_for(second.acquire(), 60)
        assert 12 <= now() - began <= 20

    virtual_time.run(scene())


def test_a_release_lets_the_other_lead_at_its_next_look() -> None:
    async def scene() -> None:
        shelf = Shelf()
        first, second = elector(shelf, "one"), elector(shelf, "two")
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(5)
        await first.release()
        assert not first.leading
        await asyncio.wait_for(waiting, 3)
        assert shelf.holder == "two"

    virtual_time.run(scene())


def test_a_lease_is_released_although_a_renewal_that_was_given_up_got_through() -> None:
    async def scene() -> None:
        shelf = Shelf()
        first = elector(shelf, "one")
        await first.acquire()
        assert shelf.lease is not None
        shelf._keep(shelf.lease)
        await first.release()
        assert shelf.holder == ""

    virtual_time.run(scene())


class MuteShelf(Shelf):
    """Keeps a Lease and does not say so."""

    async def create_lease(self, body: Lease) -> Lease | None:
        await super().create_lease(body)
        await asyncio.sleep(3600)
        return None


def test_a_lease_that_was_reached_for_when_we_were_stopped_is_released() -> None:
    async def scene() -> None:
        shelf = MuteShelf()
        first = elector(shelf, "one")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first.acquire(), 1)
        assert (shelf.holder, first.leading) == ("one", False)
        await first.release()
        assert shelf.holder == ""

    virtual_time.run(scene())


@pytest.mark.parametrize("how", ["down", "hangs"])
def test_an_outage_shorter_than_the_renewal_deadline_costs_nothing(how: str) -> None:
    async def scene() -> None:
        shelf = Shelf()
        first = elector(shelf, "one")
        await first.acquire()
        keeper = asyncio.create_task(first.keep())
        await asyncio.sleep(10)
        setattr(shelf, how, True)
        await asyncio.sleep(6)
        setattr(shelf, how, False)
        await asyncio.sleep(60)
        assert first.leading
        assert not keeper.done()
        keeper.cancel()

    virtual_time.run(scene())


@pytest.mark.parametrize("how", ["down", "hangs"])
def test_a_leader_that_cannot_renew_gives_up_before_another_can_lead(how: str) -> None:
    async def scene() -> None:
        shelf = Shelf()
        first = elector(shelf, "one")
        await first.acquire()
        setattr(shelf, how, True)
        why = await asyncio.wait_for(first.keep(), 600)
        assert "could not be renewed for 10 s" in why
        assert now() < 15

    virtual_time.run(scene())


def test_a_leader_whose_lease_was_taken_says_so_at_its_next_look() -> None:
    async def scene() -> None:
        shelf = Shelf()
        first = elector(shelf, "one")
        await first.acquire()
        assert shelf.lease is not None
        shelf.lease["spec"]["holderIdentity"] = "thief"
        shelf.lease["metadata"]["resourceVersion"] = "99"
        why = await asyncio.wait_for(first.keep(), 3)
        assert "taken by another" in why
        assert not first.leading
        await first.release()
        assert shelf.holder == "thief"

    virtual_time.run(scene())


def test_a_renewal_that_arrived_though_its_answer_did_not_is_no_loss() -> None:
    async def scene() -> None:
        shelf = Shelf()
        first = elector(shelf, "one")
        await first.acquire()
        assert shelf.lease is not None
        shelf._keep(shelf.lease)
        keeper = asyncio.create_task(first.keep())
        await asyncio.sleep(60)
        assert first.leading
        assert not keeper.done()
        keeper.cancel()

    virtual_time.run(scene())


def test_a_lease_that_somebody_deleted_is_made_anew() -> None:
    async def scene() -> None:
        shelf = Shelf()
        first = elector(shelf, "one")
        await first.acquire()
        shelf.lease = None
        assert await first.try_renew()
        assert (first.leading, shelf.holder) == (True, "one")

    virtual_time.run(scene())


def test_a_leader_that_slept_through_its_lease_does_not_believe_it_leads() -> None:
    async def scene() -> None:
        shelf, time = Shelf(), [0.0]
        first = Elector(shelf, settings_of("one"), clock=lambda: time[0])
        await first.acquire()
        time[0] = 20.0
        assert not first.leading
        assert "could not be renewed" in await asyncio.wait_for(first.keep(), 60)

    virtual_time.run(scene())


def test_a_leader_whose_namespace_goes_away_ends_when_its_lease_does() -> None:
    async def scene() -> None:
        shelf = Shelf()
        first = elector(shelf, "one")
        await first.acquire()
        shelf.lease, shelf.homeless = None, True
        assert "could not be renewed" in await asyncio.wait_for(first.keep(), 60)

    virtual_time.run(scene())

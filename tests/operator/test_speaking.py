"""Relays are spoken to: what one did not hear is told again, and what it heard is not."""

from typing import Any

import pytest

from rhapsode_contract.frames import Narration
from rhapsode_contract.names import OUTGOING
from rhapsode_operator.cases import Case
from rhapsode_operator.narrating import STILL_S
from rhapsode_operator.observing import Pod
from rhapsode_operator.planning import OUTDATED, DrainSeen, Removal
from rhapsode_operator.speaking import Speaker
from support.reconcilers import KEY, become, cluster_with, reconciling
from support.snapshots import RAN, SERVING, container, opening, pod, told

BUSY = DrainSeen(1, 0.0)


class Relays:
    """Answers one after another, the last for ever."""

    def __init__(self, *, drains: list[DrainSeen | None] | None = None, hears: list[bool]) -> None:
        self.drains, self.hears = drains or [BUSY], hears
        self.heard: list[str] = []
        self.asked = 0

    async def drain(self, _: Pod) -> DrainSeen | None:
        return self.drains.pop(0) if len(self.drains) > 1 else self.drains[0]

    async def narrate(self, _: Pod, said: Narration) -> bool:
        self.asked += 1
        hears = self.hears.pop(0) if len(self.hears) > 1 else self.hears[0]
        if hears:
            self.heard.append(said.action)
        return hears


@pytest.mark.parametrize(
    "relays",
    [
        Relays(hears=[True]),
        Relays(drains=[None, BUSY], hears=[True]),
        Relays(hears=[False, True]),
    ],
    ids=["at-once", "answers-late", "hears-late"],
)
async def test_who_waits_at_a_pod_that_is_replaced_hears_of_it_once(relays: Relays) -> None:
    case, leaving = Case(uid="u", failures={}), pod()
    draining = told(opening("draining", reason=OUTGOING))
    for _ in range(4):
        await Speaker(relays, lambda: 0.0).speak(case, [Removal(leaving, OUTDATED)], {})
        case.find_drains([leaving], {leaving.uid: draining}, 0.0)  # its stream told of the drain, whoever began it
    assert relays.heard == ["rollout"]


async def test_who_heard_it_of_an_operator_before_us_does_not_hear_it_again() -> None:
    case, leaving, relays = Case(uid="u", failures={}), pod(), Relays(hears=[True])
    case.find_drains([leaving], {leaving.uid: told(opening("draining", reason=OUTGOING))}, 0.0)
    await Speaker(relays, lambda: 0.0).speak(case, [Removal(leaving, OUTDATED)], {})
    assert relays.heard == []


async def test_what_a_relay_did_not_hear_is_told_again_as_it_is_then(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, relays = cluster_with(), Relays(hears=[True, False])
    again = container("worker", RAN, restarts=1, last={"terminated": {"exitCode": 1}})
    async with reconciling(cluster) as operator:
        telemetry = operator.reconciler.telemetry
        monkeypatch.setattr(telemetry, "narrate", relays.narrate)
        monkeypatch.setattr(telemetry, "follow", lambda *_: None)  # the tale is the test's
        await operator.run(2)
        become(cluster, "w-0", SERVING | {"conditions": [], "containerStatuses": [again]})
        telemetry.tales[cluster.pods(KEY)[0].uid] = told(opening("starting"))
        again_s = await operator.run(20)
        assert again_s == pytest.approx(STILL_S - 1.9), "it is tried again although nothing happens"
        assert relays.heard == ["pod_scheduled"]
        assert relays.asked == 2, "what it heard of it may wake us: that must not go round"
        relays.hears = [True]
        operator.now += STILL_S
        assert await operator.run(3) is None
        assert relays.heard == ["pod_scheduled", "pod_scheduled", "container_restart"]


async def test_what_was_heard_is_not_told_again_with_what_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, relays = cluster_with(), Relays(hears=[True])
    async with reconciling(cluster) as operator:
        telemetry = operator.reconciler.telemetry
        monkeypatch.setattr(telemetry, "narrate", relays.narrate)
        monkeypatch.setattr(telemetry, "follow", lambda *_: None)
        await operator.run(2)
        for restarts, hears in ((0, True), (1, False)):
            end = {"terminated": {"exitCode": 1}}
            again = container("worker", RAN, restarts=restarts, last=end if restarts else None)
            become(cluster, "w-0", SERVING | {"conditions": [], "containerStatuses": [again]})
            telemetry.tales[cluster.pods(KEY)[0].uid] = told(opening("starting"), since=operator.now)
            relays.hears = [hears]
            await operator.run()
        assert relays.heard == ["pod_scheduled"]
        relays.hears = [True]
        operator.now += STILL_S
        await operator.run(3)
        assert relays.heard == ["pod_scheduled", "container_restart"]


async def test_what_was_not_said_because_a_run_broke_off_is_said_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, relays = cluster_with(), Relays(hears=[True])
    async with reconciling(cluster) as operator:
        reconciler = operator.reconciler
        monkeypatch.setattr(reconciler.telemetry, "narrate", relays.narrate)
        monkeypatch.setattr(reconciler.telemetry, "follow", lambda *_: None)
        await operator.run(2)
        become(cluster, "w-0", SERVING | {"conditions": [], "containerStatuses": [container("worker", RAN)]})
        reconciler.telemetry.tales[cluster.pods(KEY)[0].uid] = told(opening("starting"), since=operator.now)

        async def give_up(*_: Any, **__: Any) -> Any:
            raise TimeoutError

        with monkeypatch.context() as broken:
            broken.setattr(reconciler, "_write", give_up)
            with pytest.raises(TimeoutError):
                await operator.run()
        assert relays.heard == []
        await operator.run()
        assert relays.heard == ["pod_scheduled"]

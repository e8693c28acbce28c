"""A turn in this very process: a fault of our own in its midst, which leaves nothing, and time that is over."""

import asyncio
import logging
from typing import Any

import msgspec
import pytest

from rhapsode_contract import frames
from rhapsode_contract.turns import TurnRequest
from rhapsode_contract.validating import decode_manifest
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.hearing import Hearing
from rhapsode_relay.settings import RelaySettings
from rhapsode_relay.turns.contracts import compile_contracts
from rhapsode_relay.turns.reaching import Errand, Outside, Reply
from rhapsode_relay.turns.turn_jobs import TurnJob
from rhapsode_relay.turns.turns import Turns
from support.processes import DEADLINE_S, manifest
from support.turns import declared, request
from support.virtual_time import run

WORD = "Sesame"


async def test_a_fault_ends_the_turn_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fall(_: Outside, errand: Errand) -> Reply:
        raise RuntimeError(f"{WORD} {errand.url}")

    monkeypatch.setattr(Outside, "call", fall)
    house, turns = _house()
    wanted = msgspec.convert(request(inputs={"action": WORD}, context={"sparks": True}), TurnRequest)
    with caplog.at_level(logging.INFO):
        job, _ = turns.begin(wanted, "c-1", "", "")
        async with asyncio.timeout(DEADLINE_S):
            while not job.over:
                await asyncio.sleep(0)
    assert job.error is not None
    assert (job.error.code, job.retryable) == ("internal_error", False)
    told = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert told[0].startswith("a turn failed: RuntimeError at test_turns_driver.py:")
    assert WORD not in caplog.text
    async with asyncio.timeout(DEADLINE_S):
        await turns.close()
    assert (house.unfinished(), house.line.running, house.line.waiting) == (0, 0, 0)
    assert not house.needs_worker()


class Told(list[frames.RelayFrame]):
    """A worker that only listens."""

    def send(self, frame: frames.RelayFrame) -> None:
        self.append(frame)


@pytest.mark.parametrize("phase", ["narrative", "intents"])
def test_the_turn_has_its_time_whatever_is_left_of_a_phase_s(phase: str) -> None:
    job, told = run(_be_late_in(phase))
    assert job.error is not None
    assert (job.error.code, job.retryable) == ("timeout", True)
    assert job.error.message == f"the turn took longer than 50 s; this was the {phase}"
    asked = [one.job_id for one in told if isinstance(one, frames.Generate)]
    assert [one.job_id for one in told if isinstance(one, frames.Cancel)] == asked[-1:]


def test_a_new_worker_does_not_hear_of_the_drain_that_a_turn_kept_from_the_one_before() -> None:
    """The turn still fetches its context, and is the new worker's now."""
    (house, _), told = _house(), Told()
    house.needs_worker = lambda: True
    house.drain_worker(for_good=False)
    Hearing(house).join(frames.Hello(proto=1, boot_id="new", engine="Fake", model="sim"), told)
    house.needs_worker = lambda: False
    house.tick(1e9)
    assert (told, house.draining) == ([], False)


async def _be_late_in(phase: str) -> tuple[TurnJob, Told]:
    """Bring a turn to a phase whose own time is longer, and let the turn's pass, on a clock that jumps."""
    house, turns = _house(limits={"turnSeconds": 50})
    hearing, told = Hearing(house), Told()
    caps = frames.Caps(slots=1, json_schema=True)
    hearing.join(frames.Hello(proto=1, boot_id="boot", engine="Fake", model="sim", caps=caps), told)
    hearing.take(frames.State(phase="ready", caps=caps))
    job, _ = turns.begin(msgspec.convert(request(), TurnRequest), "c-1", "", "")
    while not told:
        await asyncio.sleep(0)
    hearing.take(frames.Prefill(job_id=job.id, prompt_tokens=3))
    if phase == "intents":
        hearing.take(frames.Token(job_id=job.id, i=0, t="The "))
        hearing.take(frames.Finish(job_id=job.id, stop_reason="stop", tokens_out=1))
    while not job.over:
        await asyncio.sleep(1)
    await turns.close()
    return job, told


def _house(**changes: Any) -> tuple[Conductor, Turns]:
    resource: dict[str, Any] = manifest()
    resource["spec"]["outcomes"] = [declared("http://127.0.0.1:9", **changes)]
    settings = RelaySettings.load(decode_manifest(resource), {})
    house = Conductor(settings, "epoch", logging.getLogger("rhapsode.tests"))
    return house, Turns(house, compile_contracts(settings.outcomes), 4, None)

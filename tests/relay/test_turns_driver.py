"""A fault of our own in the midst of a turn: it ends with an error, is logged without anybody's words, leaves nothing."""

import asyncio
import logging
from typing import Any

import msgspec
import pytest

from rhapsode_contract.turns import TurnRequest
from rhapsode_contract.validating import decode_manifest
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.settings import RelaySettings
from rhapsode_relay.turns.contracts import compile_contracts
from rhapsode_relay.turns.reaching import Errand, Outside, Reply
from rhapsode_relay.turns.turns import Turns
from support.processes import manifest
from support.turns import declared, request

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
        async with asyncio.timeout(10):
            while not job.over:
                await asyncio.sleep(0)
    assert job.error is not None
    assert (job.error.code, job.retryable) == ("internal_error", False)
    told = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert told[0].startswith("a turn failed: RuntimeError at test_turns_driver.py:")
    assert WORD not in caplog.text
    async with asyncio.timeout(10):
        await turns.close()
    assert (house.unfinished(), house.line.running, house.line.waiting) == (0, 0, 0)
    assert not house.needs_worker()


def _house() -> tuple[Conductor, Turns]:
    resource: dict[str, Any] = manifest()
    resource["spec"]["outcomes"] = [declared("http://127.0.0.1:9")]
    settings = RelaySettings.load(decode_manifest(resource), {})
    house = Conductor(settings, "epoch", logging.getLogger("rhapsode.tests"))
    return house, Turns(house, compile_contracts(settings.outcomes), 4, None)

"""The process that tries guides: what ends it, what it outlives, and that no answer is taken for another's."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from rhapsode_contract.guides import Guide
from rhapsode_worker.engines.guide_checks import GuideChecks
from rhapsode_worker.errors import RequestError
from support.fake_tensorrt import fakes_environ, lent
from support.processes import DEADLINE_S, wait_until

COMPILER = "rhapsode_worker.engines.tensorrt_llm_guides"
GOOD, BAD = Guide("regex", "[0-9]+"), Guide("regex", "([")
HANGS = Guide("regex", "[[hang]]")
PARENT = f"""
import asyncio, contextlib
from rhapsode_contract.guides import Guide
from rhapsode_worker.engines.guide_checks import GuideChecks
from rhapsode_worker.errors import RequestError

async def main():
    checks = GuideChecks({COMPILER!r}, "")
    while True:
        with contextlib.suppress(RequestError):
            await checks.check(Guide("regex", "[[hang]]"), lambda: False)

asyncio.run(main())
"""
"""An engine that tries one guide after the other: a test that looks late finds it at work, too."""


@pytest.fixture
async def checks() -> AsyncIterator[GuideChecks]:
    with lent():
        made = GuideChecks(COMPILER, "")
        yield made
        await made.close()


async def why_not(checks: GuideChecks, guide: Guide) -> str:
    try:
        await checks.check(guide, lambda: False)
    except RequestError as exc:
        return exc.why
    return ""


def pid_of(checks: GuideChecks) -> int:
    assert checks._process is not None
    return checks._process.pid


def is_busy_or_over(pid: int) -> bool:
    """Return whether a process computes; one that the test looked at too late has done so."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_RUNNING, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def has_worked(process: psutil.Process) -> bool:
    """Return whether a process has computed for a while, or is over by now."""
    try:
        return bool(process.cpu_times().user > 0.3)
    except psutil.NoSuchProcess:
        return True


async def test_one_process_tries_guide_after_guide(checks: GuideChecks) -> None:
    assert [await why_not(checks, guide) for guide in (GOOD, GOOD)] == ["", ""]
    pid = pid_of(checks)
    assert "Regex parsing error" in await why_not(checks, BAD)
    assert await why_not(checks, GOOD) == ""
    assert pid_of(checks) == pid


async def test_guides_that_come_together_get_their_own_answers(checks: GuideChecks) -> None:
    answers = await asyncio.gather(*(why_not(checks, BAD if at % 2 else GOOD) for at in range(20)))
    assert [bool(answer) for answer in answers] == [bool(at % 2) for at in range(20)]


async def test_what_a_library_prints_is_no_answer(checks: GuideChecks) -> None:
    assert await why_not(checks, Guide("grammar", 'root ::= "[[print]]"')) == ""
    assert await why_not(checks, GOOD) == ""


@pytest.mark.parametrize("known", [True, False], ids=["which is known", "which is not known yet"])
async def test_a_process_that_was_killed_meanwhile_is_replaced(checks: GuideChecks, known: bool) -> None:
    await why_not(checks, GOOD)
    process = checks._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    if known:
        await process.wait()
    assert await why_not(checks, GOOD) == ""


async def test_one_who_leaves_while_a_guide_is_tried_leaves_no_answer_to_others(checks: GuideChecks) -> None:
    await why_not(checks, GOOD)
    pid = pid_of(checks)
    leaving = asyncio.create_task(why_not(checks, HANGS))
    async with asyncio.timeout(DEADLINE_S):
        while not is_busy_or_over(pid):
            await asyncio.sleep(0.01)
    leaving.cancel()
    assert "Regex parsing error" in await why_not(checks, BAD)
    assert await why_not(checks, GOOD) == ""


async def test_one_who_leaves_while_the_process_starts_leaves_no_answer_to_others(checks: GuideChecks) -> None:
    leaving = asyncio.create_task(why_not(checks, GOOD))
    async with asyncio.timeout(DEADLINE_S):
        while checks._process is None:
            await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    assert "Regex parsing error" in await why_not(checks, BAD)
    assert await why_not(checks, GOOD) == ""


async def test_a_request_that_is_over_is_not_tried(checks: GuideChecks) -> None:
    await checks.check(HANGS, lambda: True)
    assert checks._process is None


async def test_a_process_that_does_not_start_is_no_fault_of_the_guide() -> None:
    checks = GuideChecks("rhapsode_worker.engines.no_such_module", "")
    with pytest.raises(RequestError) as caught:
        await checks.check(GOOD, lambda: False)
    assert (caught.value.reason, caught.value.param) == ("engine_error", None)
    await checks.close()


def test_a_guide_that_never_ends_does_not_outlive_its_engine_for_long() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env=os.environ | fakes_environ())
    try:
        child: Any = wait_until(lambda: psutil.Process(parent.pid).children(), "a guide is tried")[0]
        wait_until(lambda: has_worked(child), "it is busy")
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not child.is_running(), "the process is gone")

"""A process of ours that is told to stop before it can listen: it hears of it as soon as it listens."""

import signal
import subprocess
import sys

import pytest

BORN = """
import asyncio, os, signal
from rhapsode_contract.lifelines import hold_signals, listen_for_stop

async def run():
    stopping, hurry = listen_for_stop(asyncio.get_running_loop(), {})
    await asyncio.wait_for(stopping.wait(), 60)
    print("told", "to hurry" if hurry.is_set() else "to stop")

hold_signals()
os.kill(os.getpid(), signal.%s)
asyncio.run(run())
"""


@pytest.mark.parametrize(("sent", "told"), [(signal.SIGINT, "told to hurry\n"), (signal.SIGTERM, "told to stop\n")])
def test_a_signal_at_birth_is_heard_when_the_process_listens(sent: signal.Signals, told: str) -> None:
    command = [sys.executable, "-c", BORN % sent.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, told, "")

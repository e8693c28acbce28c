"""A process of ours that is told to stop at any time of its life, and one that tells its child."""

import asyncio
import signal
import subprocess
import sys

import pytest

from rhapsode_contract.lifelines import send_signal

BORN = """
import asyncio, os, signal
from rhapsode_contract.lifelines import listen_for_stop, run_to_its_end

async def run():
    stopping, hurry = listen_for_stop(asyncio.get_running_loop(), {})
    await asyncio.wait_for(stopping.wait(), 60)
    print("told", "to hurry" if hurry.is_set() else "to stop")

def told_at_birth(work):
    os.kill(os.getpid(), signal.%s)
    asyncio.run(work)

run_to_its_end(run(), told_at_birth)
"""

OVER = """
import asyncio, os, signal, sys, threading, time
import uvloop
from rhapsode_contract.lifelines import listen_for_stop, run_to_its_end

async def run():
    listen_for_stop(asyncio.get_running_loop(), {})
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return 78

def told_at_the_end(work):
    status = %s.run(work)
    for _ in range(50):
        os.kill(os.getpid(), signal.%s)
        time.sleep(0.001)  # the other thread takes it, if it may
    return status

sys.exit(run_to_its_end(run(), told_at_the_end))
"""

ENDS = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); sys.exit(78)"


@pytest.mark.parametrize(("sent", "told"), [(signal.SIGINT, "told to hurry\n"), (signal.SIGTERM, "told to stop\n")])
def test_a_signal_at_birth_is_heard_when_the_process_listens(sent: signal.Signals, told: str) -> None:
    command = [sys.executable, "-c", BORN % sent.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, told, "")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("loops", ["asyncio", "uvloop"])
def test_a_signal_when_the_work_is_over_does_not_change_the_exit_status(sent: signal.Signals, loops: str) -> None:
    """Not even if a thread lives on that no call reaches: it would take what the main one holds."""
    command = [sys.executable, "-c", OVER % (loops, sent.name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (78, "", "")


async def test_a_child_that_is_signalled_while_it_ends_keeps_its_exit_status() -> None:
    for _ in range(5):
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", ENDS, stdout=asyncio.subprocess.PIPE)
        assert child.stdout is not None
        await child.stdout.readline()
        while child.returncode is None:
            send_signal(child, signal.SIGINT)
            await asyncio.sleep(0)
        send_signal(child, signal.SIGINT)
        assert await child.wait() == 78

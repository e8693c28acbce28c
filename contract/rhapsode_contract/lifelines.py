"""How a process of ours learns that it should stop, called by its `__main__`, and how it tells a child.

A signal says it; so does the end of our standard input, when the process that started us is gone, even if it was
killed.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from rhapsode_contract.names import ENV_LIFELINE

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
T = TypeVar("T")


def run_to_its_end(work: Coroutine[Any, Any, T], run: Callable[[Coroutine[Any, Any, T]], T] = asyncio.run) -> T:
    """Run what a process does, and return what it returns. `run` makes the loop.

    Signals to stop count from `listen_for_stop` to the end of the work. One that comes while the loop is made would
    leave it half made, and waits; one that comes when the work is over must not change the exit status.
    """
    hold_signals()
    return run(_and_be_deaf(work))


async def _and_be_deaf(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    finally:
        hold_signals()  # which is for this thread alone, and another may live on, as NVML's where a call hangs
        for sent in _STOP_SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(sent)  # or it gives them their defaults when it closes
            signal.signal(sent, signal.SIG_IGN)


def hold_signals() -> None:
    """Let signals to stop wait, for the main thread: until `listen_for_stop`, or for ever."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)


def send_signal(child: asyncio.subprocess.Process, sent: signal.Signals) -> None:
    """Send a signal to a child that may have just ended.

    asyncio's own way looks whether it has, and so may take the exit status from the watcher that waits for it, which
    then makes one up: 255 (CPython issue 87744).
    """
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, sent)


def listen_for_stop(
    loop: asyncio.AbstractEventLoop, environ: Mapping[str, str]
) -> tuple[asyncio.Event, asyncio.Event]:
    """Return what SIGTERM sets, and what a second signal, SIGINT or the parent's end sets besides.

    Called within `run_to_its_end`, once.
    """
    stopping, hurry = asyncio.Event(), asyncio.Event()

    def stop(hurried: bool) -> None:
        if hurried or stopping.is_set():
            hurry.set()
        stopping.set()

    loop.add_signal_handler(signal.SIGTERM, stop, False)
    loop.add_signal_handler(signal.SIGINT, stop, True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    _watch_lifeline(loop, environ, lambda: stop(True))
    return stopping, hurry


def _watch_lifeline(loop: asyncio.AbstractEventLoop, environ: Mapping[str, str], on_lost: Callable[[], None]) -> None:
    """Call `on_lost` when standard input ends, if the parent said that it holds it open."""
    if not environ.get(ENV_LIFELINE):
        return
    descriptor = sys.stdin.fileno()

    def look() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            on_lost()

    loop.add_reader(descriptor, look)

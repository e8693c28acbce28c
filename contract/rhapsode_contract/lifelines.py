"""How a process of ours learns that it should stop. Called by the relay's and the worker's `__main__`.

A signal says it; so does the end of our standard input, when the process that started us is gone, even if it was
killed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping

from rhapsode_contract.names import ENV_LIFELINE

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def hold_signals() -> None:
    """Keep signals to stop until `listen_for_stop`: one that comes while a loop is made would leave it half made."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)


def listen_for_stop(
    loop: asyncio.AbstractEventLoop, environ: Mapping[str, str]
) -> tuple[asyncio.Event, asyncio.Event]:
    """Return what SIGTERM sets, and what a second signal, SIGINT or the parent's end sets besides."""
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

"""Notice that the process that started us is gone, even if it was killed: its end of our standard input closes."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping

from rhapsode_contract.names import ENV_LIFELINE


def watch_lifeline(loop: asyncio.AbstractEventLoop, environ: Mapping[str, str], on_lost: Callable[[], None]) -> None:
    """Call `on_lost` when standard input ends, if the parent said that it holds it open."""
    if not environ.get(ENV_LIFELINE):
        return
    descriptor = sys.stdin.fileno()

    def look() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            on_lost()

    loop.add_reader(descriptor, look)

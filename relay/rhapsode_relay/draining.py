"""Stop a relay without cutting anyone off in silence. Called by `__main__`.

Running jobs may finish until the deadline; then they get one retryable terminal event. So may those that another
replica took for us: their clients asked here, and some policies end a job whose client is cut off. Streams that only
wait are ended at once, and one that refuses data is cut off: neither delays the exit.
"""

import asyncio
from collections.abc import Callable

from rhapsode_relay.conducting import Conductor
from rhapsode_relay.reading import Readers

FAREWELL_S = 1.0
"""How long readers may take to receive their last events."""
_STEP_S = 0.02


async def drain(
    house: Conductor, readers: Readers, hurry: asyncio.Event, handed_over: Callable[[], int] = lambda: 0
) -> None:
    """Drain the relay; `hurry` ends the wait for running jobs. `handed_over` says how many run elsewhere for us."""
    loop = asyncio.get_running_loop()
    house.drain()
    deadline = loop.time() + house.settings.drain_s
    while (house.unfinished() or handed_over()) and loop.time() < deadline and not hurry.is_set():
        await asyncio.sleep(_STEP_S)
    house.shut()
    readers.dismiss()
    for _ in range(round(FAREWELL_S / _STEP_S)):  # looks, not seconds: where the machine stood still, none was told
        if not len(readers):
            break
        await asyncio.sleep(_STEP_S)
    readers.abort()

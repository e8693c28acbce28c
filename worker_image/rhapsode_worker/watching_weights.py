"""Tell how much of the weights an engine has read, if it has no way to tell itself. Called by `supervising`."""

import asyncio
from pathlib import Path

from rhapsode_worker.engine_process import EngineProcess
from rhapsode_worker.voice import Voice
from rhapsode_worker.weighing import read_resident_bytes, weights_file

LOOK_S = 0.05
_WHOLE = 0.98
"""A mapping that is so far resident was read to its end, but for pages that nobody needs."""


async def watch_weights(engine: EngineProcess, path: str, model: str, voice: Voice) -> None:
    """Tell progress while the weights are being read, and that compiling goes on when they were."""
    if not path:
        return
    weights = weights_file(Path(path))
    total = weights.stat().st_size
    seen = 0
    while True:
        await asyncio.sleep(LOOK_S)
        if voice.phase != "loading" or engine.pid is None:
            if engine.pid is not None:
                return
            continue
        try:
            resident = await asyncio.to_thread(read_resident_bytes, engine.pid, weights)
        except OSError:  # it ended in the middle: nothing is told as done
            continue
        if resident is None and not seen:
            continue
        done = total if resident is None else min(resident, total)
        if done > seen:
            seen = done
            fraction = done / total
            voice.say(
                "weights_load",
                progress=fraction,
                model=model,
                bytes_done=done,
                bytes_total=total,
                fraction=fraction,
            )
        if resident is None or done >= _WHOLE * total:
            voice.say("engine_build", model=model, device="CPU", usual_s=voice.usual("compiling"))
            return

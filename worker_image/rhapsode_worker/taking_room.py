"""How much GPU memory an engine has taken for its weights, as NVML sees it. Called by `watching_loads`. Pure.

TensorRT-LLM takes the memory before it reads the weights into it, so this is told as what it is: room, not weights.
"""

from rhapsode_contract.frames import Vram
from rhapsode_worker.load_signs import Sign, Step

_BEGUN = 0.01
"""Share of the room below which what was taken may be anything."""


class Room:
    """The memory of one load, towards the size of the checkpoint, or towards what the engine announces.

    `ranks` are the engine's processes with a GPU each. A pod may see more GPUs than they use.
    """

    def __init__(self, checkpoint: int | None, ranks: int = 1) -> None:
        self._total = checkpoint
        self._ranks = ranks
        self._least: dict[str, int] = {}

    def announce(self, of_each_rank: int) -> int:
        """Take what each rank says it needs; return how many there are."""
        self._total = of_each_rank * self._ranks
        return self._ranks

    def look(self, vram: Vram) -> Sign | None:
        """Return what has been taken since the load began; None if that is nothing, or cannot be told.

        An engine that ended gives its memory back late: what was used least is what was used before.
        """
        for gpu in vram.gpus:
            self._least[gpu.uuid] = min(gpu.used_bytes, self._least.get(gpu.uuid, gpu.used_bytes))
        if not self._total or not vram.gpus or not all(gpu.healthy for gpu in vram.gpus):
            return None
        taken = sum(gpu.used_bytes - self._least[gpu.uuid] for gpu in vram.gpus)
        if taken < _BEGUN * self._total:
            return None
        done = min(taken, self._total)
        return Sign(step=Step.ROOM, fraction=done / self._total, bytes_total=self._total, facts={"bytes_done": done})

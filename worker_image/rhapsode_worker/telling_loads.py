"""Turn the signs of a load into narrations, each told once and in order. Called by `watching_loads`. Pure.

Several processes of one engine print the same lines, none of them in step with the others: what an earlier step
says when a later one has begun is passed over. Only the KV cache comes again, in its final size, and with it
autotuning and CUDA graphs.
"""

from collections.abc import Iterator
from typing import Any

from rhapsode_contract.catalogue import narrate
from rhapsode_contract.frames import Narration
from rhapsode_worker.load_signs import Sign, Step

AGAIN = "once more"
_FULL = 0.98
"""Share of the announced memory at which it counts as taken: the allocator's own share is not announced."""
_CACHES = 8
"""How many KV caches are told of, whatever is printed."""


class LoadTeller:
    """One load of one engine process."""

    def __init__(self, engine: str, model: str) -> None:
        self._engine = engine
        self._model = model
        self.step = Step(1)
        self._begun = False
        self._room: float | None = None
        self._size: Narration | None = None
        self._caches: set[int | None] = set()
        self._rounds = 0
        self._graphs = 0
        self._captured: set[int] = set()

    @property
    def minds_room(self) -> bool:
        """Whether it is still of interest how much memory is taken."""
        return self.step < Step.SKELETON or self._size is not None

    def take(self, sign: Sign) -> list[Narration]:
        """Take a sign; return what is told."""
        if sign.step == Step.ROOM:
            return list(self._take_room(sign)) if self.minds_room else []
        if not self._follows(sign):
            return []
        self.step, self._begun = sign.step, True
        if sign.step == Step.SKELETON:
            return self._announce(sign)
        size, self._size = self._size, None
        return ([size] if size else []) + self._words(sign)

    def _follows(self, sign: Sign) -> bool:
        """Return whether a sign belongs to the step that goes on, or to a later one."""
        if sign.step == Step.KV_CACHE:
            return self._is_new_cache(sign)
        if sign.step == self.step and self._begun:
            return sign.step in (Step.READ, Step.LOAD, Step.GRAPHS)
        return sign.step >= self.step

    def _is_new_cache(self, sign: Sign) -> bool:
        """Return whether a KV cache is another one. After autotuning or more, a new round begins with it."""
        if sign.bytes_total in self._caches or len(self._caches) >= _CACHES:
            return False
        self._caches.add(sign.bytes_total)
        if self.step != Step.KV_CACHE:
            self._rounds += 1
            self._graphs = 0
            self._captured.clear()
        return True

    def _take_room(self, sign: Sign) -> Iterator[Narration]:
        assert sign.fraction is not None
        self._room = sign.fraction
        fields = {
            "model": self._model,
            "bytes_done": sign.facts["bytes_done"],
            "bytes_total": sign.bytes_total,
            "fraction": sign.fraction,
        }
        yield narrate("weights_room", fields, progress=sign.fraction)
        if self._size is not None and sign.fraction >= _FULL:
            yield self._size
            self._size = None

    def _announce(self, sign: Sign) -> list[Narration]:
        """Tell the size of the weights: now, or when that much memory has been taken."""
        gpus = int(sign.facts.get("gpus", 1))
        fields = {"model": self._model, "bytes_total": sign.bytes_total, "count": gpus if gpus > 1 else None}
        size = narrate("weights_size", fields)
        if self._room is None or self._room >= _FULL:
            return [size]
        self._size = size
        return []

    def _words(self, sign: Sign) -> list[Narration]:
        fields = {**sign.facts, "bytes_total": sign.bytes_total, "model": self._model, "engine": self._engine}
        match sign.step:
            case Step.IMPORTED | Step.ARGUMENTS | Step.SPAWN | Step.MEASURED | Step.SETTLED | Step.LOADED:
                return [narrate(_ACTIONS[sign.step], fields)]
            case Step.READ:
                return [narrate("checkpoint_read", fields, progress=sign.fraction)]
            case Step.LOAD:
                told = {"model": self._model, "fraction": sign.fraction, "eta_s": sign.facts.get("eta_s")}
                return [narrate("weights_load", told, progress=sign.fraction)]
            case Step.KV_CACHE:
                return [narrate("kv_cache_alloc", {"tokens": fields["tokens"], "bytes_total": sign.bytes_total})]
            case Step.AUTOTUNE:
                return [narrate("autotune", self._round())]
            case _:
                return self._capture(sign)

    def _capture(self, sign: Sign) -> list[Narration]:
        """Tell of CUDA graphs; a line names the one that begins."""
        before = len(self._captured)
        if "sizes" in sign.facts:
            self._graphs = self._graphs or int(sign.facts["sizes"])
        elif self._graphs:
            self._captured.add(int(sign.facts["size"]))
        if not self._graphs or before == len(self._captured) > 0 or (before, len(self._captured)) == (0, 1):
            return []
        done = min(max(len(self._captured) - 1, 0), self._graphs)
        fields = {"done": done, "total": self._graphs} | self._round()
        return [narrate("graphs_capture", fields, progress=done / self._graphs)]

    def _round(self) -> dict[str, Any]:
        return {"again": AGAIN} if self._rounds > 1 else {}


_ACTIONS = {
    Step.IMPORTED: "engine_imported",
    Step.ARGUMENTS: "engine_args",
    Step.SPAWN: "engine_spawn",
    Step.MEASURED: "kv_cache_measured",
    Step.SETTLED: "engine_settled",
    Step.LOADED: "weights_done",
}

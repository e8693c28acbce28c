"""All workers, a line for each change. Called by `watching`."""

from collections.abc import Mapping
from functools import partial
from typing import IO, Any

from rhapsode.kubectl.gathering import Gathering
from rhapsode.kubectl.reaching import WORKERS, Change, Cluster
from rhapsode_contract import names
from rhapsode_contract.wording import clean

JSON = Mapping[str, Any]
Key = tuple[str, str]
COLUMNS = {"NAMESPACE": 16, "NAME": 20, "READY": 7, "PHASE": 9, "LOAD": 22, "VRAM": 14, "NARRATION": 0}


class Listing:
    """The table that grows."""

    def __init__(self, cluster: Cluster, out: IO[str]) -> None:
        self._cluster, self._out = cluster, out
        self._heard = Gathering()
        self._rows: dict[Key, list[str]] = {}
        self._words: dict[Key, str] = {}
        """What each worker is: ready, stalled, or neither."""
        self._listed = False
        self._cut = False
        self._columns = list(COLUMNS)[bool(cluster.namespace) :]

    def follow(self, *, until_ready: bool, timeout_s: float | None) -> int:
        """Show changes until told to stop; return the exit status."""
        self._heard.start(self._listen, "workers")
        for _ in self._heard.shown(timeout_s, "not all workers are ready" if until_ready else ""):
            words = self._words.values()
            if until_ready and words and not {*words} - {"ready", "stalled"}:
                return int("stalled" in words)
        return 0

    def _listen(self) -> None:
        path = f"{self._cluster.base(WORKERS)}/{names.PLURAL}"
        self._cluster.items(path, limit="1")  # says in words what is wrong with the way there
        for change in self._cluster.follow(path):
            self._heard.put(partial(self._take, change))

    def _take(self, change: Change) -> None:
        if change.kind == "CUT":
            if not self._cut:
                self._write(f"! {change.why}; connecting again")
            self._cut = True
            return
        self._cut = False
        if change.kind == "LISTED":
            self._begin(change.items)
        for item in change.items:
            self._see(item, gone=change.kind == "DELETED")

    def _begin(self, items: list[JSON] | list[dict[str, Any]]) -> None:
        if not self._listed:
            self._write(self._line(self._columns))
            if not items:
                self._write(f"! no InferenceWorker in {self._cluster.namespace or 'any namespace'} yet")
        self._listed = True
        present = {key_of(item) for item in items}
        for key in set(self._rows) - present:
            self._forget(key)

    def _see(self, worker: JSON, *, gone: bool) -> None:
        key = key_of(worker)
        if gone:
            self._forget(key)
            return
        row = row_of(worker)
        self._words[key] = word_of(worker)
        if self._rows.get(key) != row:
            self._rows[key] = row
            self._write(self._line([*key, *row][-len(self._columns) :]))

    def _forget(self, key: Key) -> None:
        self._words.pop(key, None)
        if self._rows.pop(key, None) is not None:
            self._write(self._line([*key, "-", "deleted", "", "", ""][-len(self._columns) :]))

    def _line(self, cells: list[str]) -> str:
        padded = (f"{cell:<{COLUMNS[name]}}" for name, cell in zip(self._columns, cells, strict=True))
        return "  ".join(padded).rstrip()

    def _write(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()


def key_of(worker: JSON) -> Key:
    """Return namespace and name."""
    return worker["metadata"].get("namespace", ""), worker["metadata"]["name"]


def row_of(worker: JSON) -> list[str]:
    """Return the cells behind the name."""
    spec, status = worker.get("spec") or {}, worker.get("status") or {}
    count = 0 if spec.get("suspend") else spec.get("replicas", 1)
    told = (status.get(part) or {} for part in ("load", "vram"))
    cells = [f"{status.get('readyReplicas', 0)}/{count}", status.get("phase") or "-"]
    cells += [str(one.get("summary") or "-") for one in told]
    return [clean(str(cell)) for cell in [*cells, (status.get("narration") or {}).get("text") or ""]]


def word_of(worker: JSON) -> str:
    """Return ready or stalled, of the present spec, or "" for neither."""
    status = worker.get("status") or {}
    if int(status.get("observedGeneration") or 0) < int(worker["metadata"].get("generation") or 0):
        return ""
    holds = {one["type"]: one["status"] == "True" for one in status.get("conditions") or ()}
    return "ready" if holds.get("Ready") else "stalled" if holds.get("Stalled") else ""

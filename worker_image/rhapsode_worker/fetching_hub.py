"""Bring a model from a hub into the cache: whole, verified, once, and on from where an earlier attempt ended.

Called by `preparing`, in a thread of its own: the hub's client blocks. Who comes second waits for the first.
"""

import contextlib
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rhapsode_contract.wording import UNITS
from rhapsode_worker.asking_hub import HubAway
from rhapsode_worker.errors import LoadError
from rhapsode_worker.hub_cache import HubCache
from rhapsode_worker.hub_files import COMMIT, HubFile, Listing
from rhapsode_worker.hub_parts import Part, TooMuch, refused
from rhapsode_worker.models import ModelFiles

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Pauses before the hub is asked again, by how often it gave nothing in a row; then the fetch is given up."""
WAIT_S = 0.5
_TELL_S, _WINDOW_S = 1.0, 20.0


class HubPort(Protocol):
    """One repository of a hub."""

    repo: str

    def look(self, revision: str, engine: str) -> Listing: ...
    def download(self, file: HubFile, commit: str, part: Part) -> None: ...


class Say(Protocol):
    """Tells a built-in action."""

    def __call__(self, action: str, *, progress: float | None = None, **fields: Any) -> None: ...


class Wish(NamedTuple):
    """Which model is wanted, for which engine, and where it is to be. `offline`: ask nobody."""

    model: str
    revision: str
    engine: str
    cache: Path
    offline: bool = False


class HubFetch:
    """One model on its way."""

    def __init__(self, hub: HubPort, wish: Wish, say: Say, pause: Callable[[float], None] = time.sleep) -> None:
        self._hub, self._wish, self._pause = hub, wish, pause
        self._say = say
        self._store = HubCache(wish.cache, hub.repo)

    def fetch(self) -> ModelFiles:
        """Return the model's files. Raises LoadError."""
        wish, pinned = self._wish, bool(COMMIT.fullmatch(self._wish.revision))
        known = wish.revision if pinned else self._store.commit_of(wish.revision)
        found = self._store.find(known, wish.engine) if known else None
        if found and (pinned or wish.offline):
            return self._tell_cached(found, known)
        if wish.offline:
            raise self._not_here()
        listing = self._look(patient=found is None)
        if listing is None:
            assert found is not None
            return found
        try:
            return self._fetch(listing)
        except OSError as exc:
            raise refused(exc, self._store.folder, listing.size) from exc

    # What the hub has

    def _look(self, *, patient: bool) -> Listing | None:
        """Ask the hub; None if it cannot be asked and there is a copy of what it said last."""
        for backoff_s in (*BACKOFF_S, 0.0):
            try:
                return self._hub.look(self._wish.revision, self._wish.engine)
            except HubAway as exc:
                if not patient:
                    commit = self._store.commit_of(self._wish.revision)[:12]
                    self._say("model_unchecked", why=str(exc), model=self._wish.model, commit=commit)
                    return None
                if not backoff_s:
                    raise self._give_up(exc) from exc
                pause_s = max(backoff_s, exc.pause_s)
                self._say("model_retry", why=str(exc), bytes_done=0, backoff_s=pause_s)
                self._pause(pause_s)
        raise AssertionError("the last pause gives up")

    def _fetch(self, listing: Listing) -> ModelFiles:
        wish, store = self._wish, self._store
        if found := store.find(listing.commit, wish.engine):
            store.note(wish.revision, listing.commit)
            return self._tell_cached(found, listing.commit)
        self._tell_resolved(listing.commit, len(listing.files), listing.size)
        with store.locked(lambda: self._wait(listing)):
            if store.find(listing.commit, wish.engine) is None:
                self._bring_all(listing)
                store.finish(listing.commit, wish.engine, listing.files)
            store.note(wish.revision, listing.commit)
        found = store.find(listing.commit, wish.engine)
        assert found is not None, "what was finished under the lock is there"
        return found

    def _wait(self, listing: Listing) -> None:
        fraction = self._store.bytes_here(listing.files) / max(1, listing.size)
        self._say("model_wait", progress=fraction, model=self._wish.model, fraction=fraction)
        self._pause(WAIT_S)

    # Its files

    def _bring_all(self, listing: Listing) -> None:
        here = self._store.bytes_here(listing.files)
        self._check_room(listing.size - here)
        if here:
            self._say("model_resume", model=self._wish.model, bytes_done=here, bytes_total=listing.size)
        gauge = Gauge(self._wish.model, here, listing.size, self._say)
        gauge.tell()
        for file in listing.files:
            if not self._store.has(file):
                self._bring(file, listing.commit, gauge)
        largest = max(listing.files, key=lambda file: file.size)
        self._say(
            "model_verify", model=self._wish.model, files=len(listing.files), sha256=largest.sha256[:12] or None
        )

    def _bring(self, file: HubFile, commit: str, gauge: "Gauge") -> None:
        """Fetch one file; once more from its beginning if what was pieced together is wrong."""
        while True:
            with Part(self._store.part(file), file, gauge.add) as part:
                self._pour(part, file, commit, gauge)
                if self._accept(part, file, gauge):
                    return

    def _pour(self, part: Part, file: HubFile, commit: str, gauge: "Gauge") -> None:
        """Let a file's bytes come; ask again for what the hub did not give, until it gives nothing any more."""
        given_nothing = 0
        while True:
            had = part.size
            try:
                with contextlib.suppress(TooMuch):  # `_accept` says so
                    self._hub.download(file, commit, part)
            except HubAway as exc:
                given_nothing = 1 if part.size > had else given_nothing + 1
                if given_nothing > len(BACKOFF_S):
                    raise self._give_up(exc) from exc
                pause_s = max(BACKOFF_S[given_nothing - 1], exc.pause_s)
                self._say("model_retry", why=str(exc), bytes_done=gauge.done, backoff_s=pause_s)
            else:
                return
            part.pieced = part.pieced or part.size > 0
            self._pause(pause_s)

    def _accept(self, part: Part, file: HubFile, gauge: "Gauge") -> bool:
        """Put a whole file in place. One that is not what the hub told of is refused, or fetched again from 0."""
        wrong = part.wrong()
        if not wrong:
            part.finish(self._store.blob(file))
            return True
        gauge.add(-part.size)
        part.drop()
        if not part.pieced:
            raise LoadError(
                "FetchFailed",
                wrong,
                "Start again; if it stays so, the hub or mirror at HF_ENDPOINT is not to be trusted.",
            )
        return False

    def _check_room(self, needed: int) -> None:
        folder = self._store.folder
        free = shutil.disk_usage(folder).free
        if needed > free:
            size = UNITS["size"]
            raise LoadError(
                "CacheFull",
                f"hf://{self._hub.repo} needs {size(needed)} more, and {folder} has {size(free)} free",
                "Make room there, name a larger spec.cache, or set RHAPSODE_CACHE to another folder.",
            )

    # Words

    def _tell_resolved(self, commit: str, files: int, size: int) -> None:
        source = f"hf://{self._hub.repo}@{commit[:12]}"
        self._say("model_resolve", source=source, model=self._wish.model, files=files, bytes_total=size)

    def _tell_cached(self, found: ModelFiles, commit: str) -> ModelFiles:
        self._tell_resolved(commit, found.files, found.size)
        self._say("model_cached", model=self._wish.model, bytes_total=found.size)
        return found

    def _give_up(self, exc: HubAway) -> LoadError:
        return LoadError(
            "FetchFailed",
            str(exc),
            "Check the network and HF_ENDPOINT; what has come is kept, and the next start goes on.",
        )

    def _not_here(self) -> LoadError:
        return LoadError(
            "ModelNotFound",
            f"hf://{self._hub.repo}@{self._wish.revision} is not in {self._wish.cache}, and HF_HUB_OFFLINE is set",
            "Start once without HF_HUB_OFFLINE.",
        )


class Gauge:
    """How far a fetch is, how fast, and how long it will take; told every second."""

    def __init__(self, model: str, done: int, total: int, say: Say) -> None:
        self.done, self._total = done, total
        self._model, self._say = model, say
        self._told_at = time.monotonic()
        self._past = deque([(self._told_at, done)])

    def add(self, count: int) -> None:
        """Count bytes that came, or that have to come again, which is said: progress goes back."""
        self.done += count
        if count < 0:
            self._say("model_resume", model=self._model, bytes_done=self.done, bytes_total=self._total)
        now = time.monotonic()
        if now - self._told_at >= _TELL_S or self.done == self._total:
            self._told_at = now
            self._past.append((now, self.done))
            while now - self._past[0][0] > _WINDOW_S and len(self._past) > 2:
                self._past.popleft()
            self.tell()

    def tell(self) -> None:
        """Tell it now."""
        fraction = self.done / self._total if self._total else 1.0
        speed = self._speed()
        self._say(
            "model_fetch",
            progress=fraction,
            model=self._model,
            bytes_done=self.done,
            bytes_total=self._total,
            fraction=fraction,
            bytes_per_s=speed,
            eta_s=round((self._total - self.done) / speed, 1) if speed else None,
        )

    def _speed(self) -> float | None:
        (began, had), (ended, has) = self._past[0], self._past[-1]
        return (has - had) / (ended - began) if has > had and ended - began > 0.1 else None

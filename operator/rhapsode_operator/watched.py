"""What the cluster holds, as of the last event: resources and their pods. Filled by `watching`, read by the rest.

Not kopf's indices: at the start each object would wake every object that waits there (at 5,000 of them for half a
minute), and what is deleted while a watch begins anew would stay in them for ever. `probing` closes both gaps.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from rhapsode_contract.names import KIND
from rhapsode_operator.observing import POD_LABEL
from rhapsode_operator.probing import Named
from rhapsode_operator.queueing import Key

W = TypeVar("W")
P = TypeVar("P")
Body = dict[str, Any]
_log = logging.getLogger("rhapsode.operator.watch")


class Additions(Protocol):
    """Where keys go that something happened to."""

    def add(self, key: Key) -> None: ...


class Hearsay(Protocol):
    """Told of every version that the watch brings."""

    def told(self, named: Named, version: str, *, deleted: bool = False) -> None: ...


class Life(NamedTuple):
    """Which object has a name. kopf orders the events of a uid, not those of an object and its successor."""

    uid: str
    created: str
    version: int

    @classmethod
    def of(cls, body: Body) -> "Life":
        """Return whom an event speaks of."""
        metadata = body["metadata"]
        version = str(metadata.get("resourceVersion", ""))
        number = int(version) if version.isdecimal() else 0
        return cls(metadata.get("uid", ""), metadata.get("creationTimestamp", ""), number)

    def is_before(self, other: "Life") -> bool:
        """Whether this object had the name first. Moments have seconds only; within one, versions tell."""
        return (self.created, self.version) < (other.created, other.version)


class Watched(Generic[W, P]):
    """Resources by key, pods by the key of the resource whose label they carry."""

    def __init__(
        self, queue: Additions, hearsay: Hearsay, make_worker: Callable[[Body], W], make_pod: Callable[[Body], P]
    ) -> None:
        self._queue = queue
        self._hearsay = hearsay
        self._make_worker = make_worker
        self._make_pod = make_pod
        self._workers: dict[Key, W] = {}
        self._pods: dict[Key, dict[str, P]] = {}
        self._owners: dict[Key, Key] = {}
        self._lives: dict[Named, Life] = {}
        self._heard_at = asyncio.get_running_loop().time()

    def worker(self, key: Key) -> W | None:
        """Return a resource, None if there is none."""
        return self._workers.get(key)

    def pods(self, key: Key) -> list[P]:
        """Return the pods that carry the resource's label."""
        return list(self._pods.get(key, {}).values())

    def last_event_age(self) -> float:
        """Return for how many seconds nothing was heard."""
        return asyncio.get_running_loop().time() - self._heard_at

    # What was seen

    def worker_seen(self, body: Body, *, deleted: bool) -> None:
        """Note a resource, or its end."""
        key = _key(body)
        if self._is_late((KIND, *key), body, deleted=deleted):
            return
        self._workers.pop(key, None)
        if not deleted and (made := _made(self._make_worker, body)) is not None:
            self._workers[key] = made
        self._hear((KIND, *key), body, deleted=deleted)
        self._queue.add(key)

    def pod_seen(self, body: Body, *, deleted: bool) -> None:
        """Note a pod, or its end, for the resource of its label."""
        key, name = _key(body), body["metadata"].get("labels", {}).get(POD_LABEL)
        if self._is_late(("Pod", *key), body, deleted=deleted):
            return
        self._drop_pod(key)
        if name and not deleted and (made := _made(self._make_pod, body)) is not None:
            owner = (key[0], name)
            self._pods.setdefault(owner, {})[key[1]] = made
            self._owners[key] = owner
            self._queue.add(owner)
        self._hear(("Pod", *key), body, deleted=deleted or not name)

    def vanished(self, named: Named) -> None:
        """Note the end of something whose deletion the watch never told."""
        kind, key = named[0], named[1:]
        _log.warning("%s %s/%s was deleted unseen", *named)
        self._lives.pop(named, None)
        self._hearsay.told(named, "", deleted=True)
        if kind == KIND:
            self._workers.pop(key, None)
            self._queue.add(key)
        else:
            self._drop_pod(key)

    def _is_late(self, named: Named, body: Body, *, deleted: bool) -> bool:
        """Whether an event is of an object whose name another has by now; else note who has it."""
        life, known = Life.of(body), self._lives.get(named)
        if known is not None and known.uid != life.uid and (deleted or life.is_before(known)):
            return True
        if deleted:
            self._lives.pop(named, None)
        else:
            self._lives[named] = life
        return False

    def _drop_pod(self, key: Key) -> None:
        owner = self._owners.pop(key, None)
        if owner is None:
            return
        pods = self._pods[owner]
        del pods[key[1]]
        if not pods:
            del self._pods[owner]
        self._queue.add(owner)

    def _hear(self, named: Named, body: Body, *, deleted: bool) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        self._hearsay.told(named, body["metadata"].get("resourceVersion", ""), deleted=deleted)


def _made(make: Callable[[Body], Any], body: Body) -> Any:
    """Return what is kept; None if it cannot be read, so that one bad object stops nobody else."""
    try:
        return make(body)
    except Exception:
        _log.exception("%s/%s could not be read", *_key(body))
        return None


def _key(body: Body) -> Key:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]

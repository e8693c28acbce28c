"""An API server of a few objects in memory, for what a real one cannot easily be brought to.

It keeps the promises that the operator builds on; `tests/operator/test_fake_cluster.py` asks the same of it and of a
real API server. Refusals are scripted by verb and kind. What the watch has seen is `look`ed at, by default at once.
"""

import copy
import itertools
from collections.abc import Callable
from typing import Any

from rhapsode_operator.errors import GoneError, OperatorError, RefusedError, RetryableError
from rhapsode_operator.observing import Pod, Worker, read_pod, read_worker

JSON = dict[str, Any]
Key = tuple[str, str]
Named = tuple[str, str, str]
WORKER = "InferenceWorker"


class FakeCluster:
    """Objects by kind, namespace and name; what is asked of them; what is refused."""

    def __init__(self) -> None:
        self.objects: dict[Named, JSON] = {}
        self.calls: list[tuple[str, str, str]] = []
        """Verb, kind and name of each write."""
        self.events: list[JSON] = []
        self.refusals: dict[tuple[str, str], OperatorError] = {}
        """By verb and kind: what such a call raises."""
        self.on_change: Callable[[Key], None] = lambda _: None
        """What a watch would tell."""
        self._managers: dict[Named, str] = {}
        self._parts: dict[tuple[str, str], JSON] = {}
        self._seen: dict[Named, JSON] | None = None
        self._numbers = itertools.count(1)

    # What the operator writes

    async def create(self, body: JSON, *, manager: str) -> JSON:
        named = self._note("create", body)
        if named in self.objects:
            raise RetryableError(f'"{named[2]}" already exists', reason="AlreadyExists", status=409)
        return self._store(named, body, manager)

    async def apply(self, body: JSON, *, manager: str, force: bool = True) -> JSON:
        named = self._note("apply", body)
        found = self.objects.get(named)
        if found is None:
            return self._store(named, body, manager)
        if self._managers[named] != manager and not force and _differ(found, body):
            raise RetryableError("Apply failed with 1 conflict: .spec", reason="Conflict", status=409)
        return self._store(named, _merged(found, body), self._managers[named])

    async def annotate(self, namespace: str, pod: str, annotations: Any) -> JSON:
        named = self._note("annotate", {"kind": "Pod", "metadata": {"namespace": namespace, "name": pod}})
        body = copy.deepcopy(self._existing(named))
        kept = {**body["metadata"].get("annotations", {}), **annotations}
        body["metadata"]["annotations"] = {name: value for name, value in kept.items() if value is not None}
        return self._store(named, body, self._managers[named])

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> bool:
        named = self._note("delete", {"kind": kind, "metadata": {"namespace": namespace, "name": name}})
        found = self.objects.get(named)
        if found is None or found["metadata"]["uid"] != uid:
            return False
        if found.get("spec", {}).get("nodeName") and found.get("status", {}).get("phase") != "Failed":
            body = copy.deepcopy(found)
            body["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z"
            self._store(named, body, self._managers[named])
        else:
            self.vanish(kind, name, namespace)
        return True

    async def read(self, kind: str, namespace: str, name: str) -> JSON | None:
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    async def apply_status(self, body: JSON, *, manager: str) -> JSON:
        named = self._note("status", body)
        found = copy.deepcopy(self._existing(named))
        uid = found["metadata"]["uid"]
        others = [part for (owner, who), part in self._parts.items() if owner == uid and who != manager]
        found["status"] = _joined([*others, body.get("status", {})])
        if "status" in body and not found["status"]:
            raise RefusedError("status: Invalid value: null", reason="Invalid", status=422)
        self._parts[uid, manager] = body.get("status", {})
        return self._store(named, found, self._managers[named])

    async def create_event(self, body: JSON) -> JSON:
        if any(one["metadata"]["name"] == body["metadata"]["name"] for one in self.events):
            raise RetryableError("already exists", reason="AlreadyExists", status=409)
        self.events.append(body)
        return body

    # What the watch saw

    def worker(self, key: Key) -> Worker | None:
        found = self._view.get((WORKER, *key))
        return read_worker(found) if found else None

    def pods(self, key: Key) -> list[Pod]:
        return [
            read_pod(body)
            for (kind, namespace, _), body in self._view.items()
            if (kind, namespace) == ("Pod", key[0]) and body["metadata"].get("labels", {}).get("rhapsode.dev/worker") == key[1]
        ]  # fmt: skip

    def keys(self) -> list[Key]:
        return [(namespace, name) for kind, namespace, name in self._view if kind == WORKER]

    def freeze(self) -> None:
        """Let the watch tell nothing from now on."""
        self._seen = copy.deepcopy(self.objects)

    def thaw(self) -> None:
        self._seen = None

    @property
    def _view(self) -> dict[Named, JSON]:
        return self.objects if self._seen is None else self._seen

    # What a test does and sees

    def put(self, body: JSON, manager: str = "somebody") -> JSON:
        """Have an object as somebody made it."""
        body = copy.deepcopy(body)
        body["metadata"].setdefault("namespace", "ns")
        return self._store(_named(body), body, manager)

    def vanish(self, kind: str, name: str, namespace: str = "ns") -> None:
        """An object is gone."""
        del self.objects[kind, namespace, name]
        self._tell(("", "", ""))

    def get(self, kind: str, name: str) -> JSON:
        return self.objects[kind, "ns", name]

    def names(self, kind: str) -> list[str]:
        return sorted(name for found, _, name in self.objects if found == kind)

    def count(self, verb: str, kind: str = "") -> int:
        """Return how often something was asked."""
        return sum(found == verb and kind in ("", about) for found, about, _ in self.calls)

    # Inside

    def _note(self, verb: str, body: JSON) -> Named:
        named = _named(body)
        self.calls.append((verb, named[0], named[2]))
        if error := self.refusals.get((verb, named[0])):
            raise error
        return named

    def _existing(self, named: Named) -> JSON:
        if named not in self.objects:
            raise GoneError(f'"{named[2]}" not found', reason="NotFound", status=404)
        return self.objects[named]

    def _store(self, named: Named, body: JSON, manager: str) -> JSON:
        """Keep an object, unless nothing of it is new: then nobody hears of it."""
        body = copy.deepcopy(body)
        found = self.objects.get(named)
        body["metadata"].setdefault("uid", found["metadata"]["uid"] if found else f"uid-{next(self._numbers)}")
        if _without_version(body) != _without_version(found):
            body["metadata"]["resourceVersion"] = str(next(self._numbers))
            self.objects[named], self._managers[named] = body, manager
            self._tell(named)
        return copy.deepcopy(self.objects[named])

    def _tell(self, named: Named) -> None:
        for key in self.keys() if named[0] != WORKER else [named[1:]]:
            self.on_change(key)


def _named(body: JSON) -> Named:
    return body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]


def _without_version(body: JSON | None) -> JSON | None:
    metadata = {name: value for name, value in (body or {}).get("metadata", {}).items() if name != "resourceVersion"}
    return body and body | {"metadata": metadata}


def _differ(found: JSON, body: JSON) -> bool:
    """Whether a field that both have is another one."""
    return any(name in found.get("spec", {}) and found["spec"][name] != value for name, value in body["spec"].items())


def _merged(found: JSON, body: JSON) -> JSON:
    """Return an object with what was applied: other fields stay, owners are added."""
    owners = {owner["uid"]: owner for one in (found, body) for owner in one["metadata"].get("ownerReferences", ())}
    labels = found["metadata"].get("labels", {}) | body["metadata"].get("labels", {})
    also = {"labels": labels} if labels else {}
    also |= {"ownerReferences": list(owners.values())} if owners else {}
    metadata = found["metadata"] | also
    return found | {"metadata": metadata, "spec": found.get("spec", {}) | body.get("spec", {})}


def _joined(parts: list[JSON]) -> JSON:
    """Return a status of several managers: entries of `workers` are merged by pod."""
    joined: JSON = {}
    workers: dict[str, JSON] = {}
    for part in parts:
        joined |= {name: value for name, value in part.items() if name != "workers"}
        for one in part.get("workers", ()):
            workers[one["pod"]] = workers.get(one["pod"], {}) | one
    return joined | ({"workers": list(workers.values())} if workers else {})

"""What the cluster holds, as the API server tells it. The only file that imports kopf.

kopf is informer and runtime and nothing else: handlers put a key on the queue, indices keep what `make_worker` and
`make_pod` make of the objects. It writes nothing: no annotation, no finalizer, no Event. Each line of `kopf_settings`
avoids a trap that was measured; `tests/operator/test_watching.py` has a test for each.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

import kopf

from rhapsode_contract.names import GROUP, KIND, VERSION
from rhapsode_operator.observing import POD_LABEL
from rhapsode_operator.queueing import Key
from rhapsode_operator.settings import OperatorSettings

W = TypeVar("W")
P = TypeVar("P")
Body = dict[str, Any]
Act = Callable[[], Awaitable[None]]

_log = logging.getLogger("rhapsode.operator.watch")


class Additions(Protocol):
    """Where keys go that something happened to."""

    def add(self, key: Key) -> None: ...


class Hearsay(Protocol):
    """Told of every version that the watch brings."""

    def told(self, named: tuple[str, str, str], version: str, *, deleted: bool = False) -> None: ...


class Watched(Generic[W, P]):
    """Resources and pods, as of the last event."""

    def __init__(
        self, queue: Additions, hearsay: Hearsay, make_worker: Callable[[Body], W], make_pod: Callable[[Body], P]
    ) -> None:
        self._queue = queue
        self._hearsay = hearsay
        self._make_worker = make_worker
        self._make_pod = make_pod
        self._workers: kopf.Index[Key, W] | None = None
        self._pods: kopf.Index[Key, P] | None = None
        self._heard_at = 0.0

    def worker(self, key: Key) -> W | None:
        """Return a resource, None if there is none."""
        return next(iter(self._workers.get(key, ())), None) if self._workers is not None else None

    def pods(self, key: Key) -> list[P]:
        """Return the pods that carry the resource's label."""
        return list(self._pods.get(key, ())) if self._pods is not None else []

    def keys(self) -> list[Key]:
        """Return the keys of all resources."""
        return list(self._workers) if self._workers is not None else []

    def last_event_age(self) -> float:
        """Return for how many seconds nothing was heard."""
        return asyncio.get_running_loop().time() - self._heard_at

    # What kopf calls

    def begin(self, workers: "kopf.Index[Key, W]", pods: "kopf.Index[Key, P]") -> None:
        """Read from these indices from now on."""
        self._workers, self._pods = workers, pods
        self._heard_at = asyncio.get_running_loop().time()

    def index_worker(self, body: Body) -> dict[Key, W]:
        self._hear(KIND, body)
        return _made(self._make_worker, _key(body), body)

    def index_pod(self, body: Body) -> dict[Key, P]:
        self._hear("Pod", body)
        return _made(self._make_pod, _owner(body), body)

    def worker_changed(self, kind: str | None, body: Body) -> None:
        if kind == "DELETED":
            self._hear(KIND, body, deleted=True)
        self._queue.add(_key(body))

    def pod_changed(self, kind: str | None, body: Body) -> None:
        if kind == "DELETED":
            self._hear("Pod", body, deleted=True)
        if key := _owner(body):
            self._queue.add(key)

    def _hear(self, kind: str, body: Body, *, deleted: bool = False) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        self._hearsay.told((kind, *_key(body)), body["metadata"].get("resourceVersion", ""), deleted=deleted)


async def watch(
    watched: Watched[Any, Any],
    settings: OperatorSettings,
    *,
    on_start: Act,
    on_stop: Act,
    ready: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Watch until `stop` or SIGTERM; what runs meanwhile is started by `on_start` and ended by `on_stop`.

    kopf cancels every task that it did not find when it began, so those that must outlive it are started before; and
    waits 5 s for them first, also for its own that waits for `stop`, unless that is set when SIGTERM came instead.
    Raises what ended the watch, if it did not end in order.
    """

    async def end() -> None:
        stop.set()
        await on_stop()

    await kopf.operator(
        registry=make_registry(watched, on_start, end),
        settings=kopf_settings(settings),
        standalone=True,  # its peering needs CRDs and freezes both of two equals; we have a Lease
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
        ready_flag=ready,
        stop_flag=stop,
    )


def make_registry(watched: Watched[Any, Any], on_start: Act, on_stop: Act) -> kopf.OperatorRegistry:
    """Return what kopf calls and when. Every function is async: others would go through a growing pool of threads."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)  # a registry of one's own has none
    async def login(**given: Any) -> Any:
        from_file = kopf.login_with_kubeconfig(**given) if os.environ.get("KUBECONFIG") else None
        return from_file or kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)

    @kopf.on.startup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)  # a failed start ends us
    async def start(**indices: Any) -> None:
        watched.begin(indices["workers"], indices["pods"])
        await on_start()

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        await on_stop()

    @kopf.index(GROUP, VERSION, "inferenceworkers", registry=registry, id="workers")
    async def workers(body: kopf.Body, **_: Any) -> dict[Key, Any]:
        return watched.index_worker(_plain(body))

    @kopf.index("", "v1", "pods", registry=registry, id="pods")
    async def pods(body: kopf.Body, **_: Any) -> dict[Key, Any]:
        return watched.index_pod(_plain(body))

    @kopf.on.event(GROUP, VERSION, "inferenceworkers", registry=registry)
    async def worker_event(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
        watched.worker_changed(type, _plain(body))

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def pod_event(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
        watched.pod_changed(type, _plain(body))

    return registry


def kopf_settings(settings: OperatorSettings) -> kopf.OperatorSettings:
    """Return kopf's settings: an informer that writes nothing."""
    ours = kopf.OperatorSettings()
    ours.scanning.disabled = True  # without rights on namespaces and CRDs scanning delays the start by 55 s
    ours.persistence.finalizer = f"{GROUP}/unused"  # kopf strips "its" finalizer, by default every kopf operator's
    ours.posting.enabled = False
    ours.watching.label_selectors["", "v1", "pods"] = POD_LABEL  # a tuple: 'v1/pods' is ignored without a word
    ours.watching.chunk_size = 500
    ours.watching.initial_streaming = settings.initial_streaming
    ours.watching.inactivity_timeout = 70  # bookmarks come every 60 s
    ours.watching.connect_timeout = 10
    ours.networking.request_timeout, ours.networking.connect_timeout = 30, 10
    ours.networking.error_backoffs = (0.5, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3)  # 21 s would delay what follows an outage
    ours.queueing.worker_limit = None  # with indices a limit below the number of objects is a deadlock
    ours.execution.max_workers = 2
    ours.process.ultimate_exiting_timeout = 25  # below the pod's grace period
    # It tells of every handler that succeeded.
    logging.getLogger("kopf").setLevel(settings.log_level if settings.log_level < logging.INFO else logging.WARNING)
    return ours


def _plain(body: kopf.Body) -> Body:
    """Return an object as plain dicts, without what only the API server needs."""
    plain = dict(body)
    metadata = dict(plain.get("metadata", {}))
    metadata.pop("managedFields", None)
    return plain | {"metadata": metadata}


def _made(make: Callable[[Body], Any], key: Key | None, body: Body) -> dict[Key, Any]:
    """Return what the index keeps; nothing if it cannot be read, so that one bad object stops nobody else."""
    if key is None:
        return {}
    try:
        return {key: make(body)}
    except Exception:
        _log.exception("%s/%s could not be read", *_key(body))
        return {}


def _key(body: Body) -> Key:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _owner(body: Body) -> Key | None:
    """Return the key of the resource that a pod belongs to."""
    metadata = body["metadata"]
    name = metadata.get("labels", {}).get(POD_LABEL)
    return (metadata["namespace"], name) if name else None

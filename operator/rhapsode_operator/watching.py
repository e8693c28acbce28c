"""kopf, as informer and runtime. The only file that imports it.

Its handlers note what they see in `Watched`, which puts a key on the queue. It writes nothing: no annotation, no
finalizer, no Event. Each line of `kopf_settings` avoids a trap that was measured; `tests/operator/test_watching.py`
has a test for each.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import kopf
from kopf._cogs.structs.references import Insights  # an argument of kopf.operator, though not exported
from kopf._core.engines.peering import Identity  # the same

from rhapsode_contract.names import API_VERSION, GROUP, VERSION
from rhapsode_operator.errors import RetryableError
from rhapsode_operator.observing import POD_LABEL
from rhapsode_operator.settings import OperatorSettings
from rhapsode_operator.watched import Body, Watched

Act = Callable[[], Awaitable[None]]


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

    insights = Insights()
    looking = asyncio.create_task(_look(insights, stop))  # before kopf, which would wait for it in the end
    try:
        await kopf.operator(
            registry=make_registry(watched, on_start, end),
            settings=kopf_settings(settings),
            insights=insights,
            identity=Identity(settings.identity),  # its own asks for the user's name: an image's user has none
            standalone=True,  # its peering needs CRDs and freezes both of two equals; we have a Lease
            clusterwide=not settings.watch_namespaces,
            namespaces=settings.watch_namespaces,
            ready_flag=ready,
            stop_flag=stop,
        )
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    if insights.ready_resources.is_set() and not _is_whole(insights):
        raise RetryableError(f"the API server does not serve {API_VERSION} and pods yet", reason="NotServed")


async def _look(insights: Insights, stop: asyncio.Event) -> None:
    """Stop when kopf found less than we need: an API server that has just started knows no CRD for a moment.

    kopf looks once, and would then watch nothing for ever.
    """
    await insights.ready_resources.wait()
    if not _is_whole(insights):
        stop.set()


def _is_whole(insights: Insights) -> bool:
    return {resource.plural for resource in insights.watched_resources} == {"inferenceworkers", "pods"}


def make_registry(watched: Watched[Any, Any], on_start: Act, on_stop: Act) -> kopf.OperatorRegistry:
    """Return what kopf calls and when. Every function is async: others would go through a growing pool of threads."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)  # a registry of one's own has none
    async def login(**given: Any) -> Any:
        from_file = kopf.login_with_kubeconfig(**given) if os.environ.get("KUBECONFIG") else None
        return from_file or kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)

    @kopf.on.startup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)  # a failed start ends us
    async def start(**_: Any) -> None:
        await on_start()

    @kopf.on.cleanup(registry=registry)
    async def end(**_: Any) -> None:
        await on_stop()

    @kopf.on.event(GROUP, VERSION, "inferenceworkers", registry=registry)
    async def worker_event(event: kopf.RawEvent, **_: Any) -> None:
        watched.worker_seen(_plain(event), deleted=event["type"] == "DELETED")

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def pod_event(event: kopf.RawEvent, **_: Any) -> None:
        watched.pod_seen(_plain(event), deleted=event["type"] == "DELETED")

    return registry


def kopf_settings(settings: OperatorSettings) -> kopf.OperatorSettings:
    """Return kopf's settings: an informer that writes nothing."""
    ours = kopf.OperatorSettings()
    ours.scanning.disabled = True  # without rights on namespaces and CRDs scanning delays the start by 55 s
    ours.persistence.finalizer = f"{GROUP}/unused"  # kopf strips "its" finalizer, by default every kopf operator's
    ours.persistence.diffbase_storage, ours.persistence.progress_storage = _NoDiffs(), _NoProgress()
    ours.posting.enabled = False
    ours.watching.label_selectors["", "v1", "pods"] = POD_LABEL  # a tuple: 'v1/pods' is ignored without a word
    ours.watching.chunk_size = 200  # objects whose whole bodies are in memory at once
    ours.watching.initial_streaming = settings.initial_streaming
    ours.watching.inactivity_timeout = 70  # bookmarks come every 60 s
    ours.watching.connect_timeout = 10
    ours.networking.request_timeout, ours.networking.connect_timeout = 30, 10
    ours.networking.error_backoffs = (0.5, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3)  # 21 s would delay what follows an outage
    ours.queueing.idle_timeout = 0.1  # so long the last body of each object is kept: 5 s of a list are all of it
    ours.queueing.worker_limit = None  # one object's slow handler must not hold up others
    ours.execution.max_workers = 2
    ours.process.ultimate_exiting_timeout = 25  # below the pod's grace period
    # It tells of every handler that succeeded.
    logging.getLogger("kopf").setLevel(settings.log_level if settings.log_level < logging.INFO else logging.WARNING)
    return ours


def _plain(event: kopf.RawEvent) -> Body:
    """Return an object as plain dicts, without what only the API server needs."""
    body: Body = dict(event["object"])
    metadata = dict(body["metadata"])
    metadata.pop("managedFields", None)
    return body | {"metadata": metadata}


class _NoDiffs(kopf.DiffBaseStorage):
    """Remembers nothing: kopf would copy each object deeply, twice an event, for handlers that we do not have."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        raise AssertionError("nothing is stored on what we watch")


class _NoProgress(kopf.ProgressStorage):
    """Remembers nothing: no handler of ours takes more than one step."""

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        raise AssertionError("nothing is stored on what we watch")

    def purge(self, **_: Any) -> None:
        """There is nothing."""

    def touch(self, **_: Any) -> None:
        """There is nothing."""

    def clear(self, *, essence: Any) -> Any:
        return essence

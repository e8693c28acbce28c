"""kopf as an informer: what reaches us, how it is kept, and the traps of its settings."""

import asyncio
import contextlib
import getpass
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from kopf._cogs.structs.references import Resource  # how kopf itself looks a selector up

from rhapsode_contract.names import KIND
from rhapsode_operator import watching as watching_module
from rhapsode_operator.errors import RetryableError
from rhapsode_operator.observing import POD_LABEL
from rhapsode_operator.queueing import Key
from rhapsode_operator.settings import OperatorSettings
from rhapsode_operator.watched import Watched
from rhapsode_operator.watching import kopf_settings, make_registry, watch
from support.api_server import ApiServer
from support.documents import ROOT
from support.loops import settle
from support.processes import DEADLINE_S

CRD = ROOT / "crds/inferenceworkers.rhapsode.dev.yaml"
PODS = Resource("", "v1", "pods", kind="Pod", namespaced=True, preferred=True, verbs=frozenset(["list", "watch"]))


class Ear:
    """Records the keys that are added and every version that the watch brings."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.versions: list[tuple[str, str, str]] = []
        self.gone: list[str] = []

    def add(self, key: Key) -> None:
        self.keys.append(key)

    def told(self, named: tuple[str, str, str], version: str, *, deleted: bool = False) -> None:
        assert deleted or version.isdecimal()
        (self.gone.append(named[2]) if deleted else self.versions.append(named))


def read_uid(body: dict[str, Any]) -> str:
    return str(body["metadata"]["uid"])


async def nothing() -> None:
    pass


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for something that the event loop of this test does."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


@contextlib.asynccontextmanager
async def watching(
    server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch, make_worker: Callable[[dict[str, Any]], Any]
) -> AsyncIterator[tuple[Watched[Any, Any], Ear]]:
    server.install_crd(CRD)
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig()))
    ear, stop, ready = Ear(), asyncio.Event(), asyncio.Event()
    watched = Watched[Any, Any](ear, ear, make_worker, lambda body: body)
    settings = OperatorSettings.from_env({"RHAPSODE_WATCH_NAMESPACES": namespace})
    task = asyncio.create_task(watch(watched, settings, on_start=nothing, on_stop=nothing, ready=ready, stop=stop))
    try:
        await asyncio.wait_for(ready.wait(), DEADLINE_S)
        yield watched, ear
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE_S)
        await settle()


def worker(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "rhapsode.dev/v1alpha1",
        "kind": "InferenceWorker",
        "metadata": {"name": name},
        "spec": {"model": {"source": "builtin://simulator"}},
    }


def pod(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def workers_of(namespace: str) -> str:
    return f"/apis/rhapsode.dev/v1alpha1/namespaces/{namespace}/inferenceworkers"


def pods_of(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


async def test_only_labelled_pods_cross_the_wire(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A selector in any but tuple form is ignored without a word, and every pod of the cluster is kept."""
    for name in ("before", "mine-0"):
        api_server.post(pods_of(namespace), pod(name, **({POD_LABEL: "mine"} if name == "mine-0" else {})))
    async with watching(api_server, namespace, monkeypatch, lambda body: body) as (watched, ear):
        api_server.post(pods_of(namespace), pod("after"))
        api_server.post(pods_of(namespace), pod("mine-1", **{POD_LABEL: "mine"}))
        await until(lambda: len(watched.pods((namespace, "mine"))) == 2, "both pods are known")
        assert {named[2] for named in ear.versions} == {"mine-0", "mine-1"}
        api_server.patch(f"{pods_of(namespace)}/mine-0", {"metadata": {"labels": {POD_LABEL: None}}})
        await until(lambda: len(watched.pods((namespace, "mine"))) == 1, "the pod is ours no more")
    assert set(ear.keys) == {(namespace, "mine")}
    assert ear.gone == ["mine-0"]


async def test_what_is_kept_is_plain_and_without_managed_fields(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(api_server, namespace, monkeypatch, lambda body: body) as (watched, _):
        began = (loop := asyncio.get_running_loop()).time()
        api_server.post(workers_of(namespace), worker("w"))
        await until(lambda: watched.worker((namespace, "w")), "the resource is known")
        body = watched.worker((namespace, "w"))
        assert type(body) is dict
        assert type(body["metadata"]) is dict
        assert type(body["spec"]["model"]) is dict
        assert "managedFields" not in body["metadata"]
        assert watched.last_event_age() <= loop.time() - began


async def test_a_resource_that_cannot_be_read_hides_no_other(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def make(body: dict[str, Any]) -> str:
        if body["metadata"]["name"] == "bad":
            raise ValueError("unreadable")
        return "read"

    api_server.post(workers_of(namespace), worker("bad"))
    async with watching(api_server, namespace, monkeypatch, make) as (watched, ear):
        api_server.post(workers_of(namespace), worker("good"))
        await until(lambda: watched.worker((namespace, "good")), "the other is known")
        assert watched.worker((namespace, "bad")) is None
        assert (namespace, "bad") in ear.keys
    assert f"{namespace}/bad could not be read" in caplog.text


async def test_a_deleted_resource_is_told_once_more_and_gone(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(api_server, namespace, monkeypatch, lambda body: body) as (watched, ear):
        api_server.post(workers_of(namespace), worker("w"))
        await until(lambda: watched.worker((namespace, "w")), "the resource is known")
        told = len(ear.keys)
        api_server.delete(f"{workers_of(namespace)}/w")
        await until(lambda: ear.gone and len(ear.keys) > told, "the deletion is told")
        assert watched.worker((namespace, "w")) is None
        assert ear.gone == ["w"]


async def test_a_pod_that_changes_its_owner_leaves_the_first(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(api_server, namespace, monkeypatch, lambda body: body) as (watched, ear):
        api_server.post(pods_of(namespace), pod("p", **{POD_LABEL: "one"}))
        await until(lambda: watched.pods((namespace, "one")), "the pod is known")
        api_server.patch(f"{pods_of(namespace)}/p", {"metadata": {"labels": {POD_LABEL: "two"}}})
        await until(lambda: watched.pods((namespace, "two")), "the pod has moved")
        assert watched.pods((namespace, "one")) == []
        assert ear.keys[-2:] == [(namespace, "one"), (namespace, "two")]


async def test_what_vanished_unseen_is_dropped_and_told() -> None:
    ear = Ear()
    watched = Watched[Any, Any](ear, ear, lambda body: body, lambda body: body)
    metadata = {"namespace": "ns", "name": "p", "labels": {POD_LABEL: "w"}, "resourceVersion": "1"}
    watched.pod_seen({"metadata": metadata}, deleted=False)
    watched.worker_seen({"metadata": metadata | {"name": "w"}}, deleted=False)
    ear.keys.clear()
    watched.vanished(("Pod", "ns", "p"))
    assert watched.pods(("ns", "w")) == []
    watched.vanished((KIND, "ns", "w"))
    assert watched.worker(("ns", "w")) is None
    assert (ear.keys, ear.gone) == ([("ns", "w"), ("ns", "w")], ["p", "w"])


def one_life(uid: str, created: str, version: int, name: str = "w") -> dict[str, Any]:
    metadata = {"namespace": "ns", "name": name, "uid": uid, "creationTimestamp": created}
    return {"metadata": metadata | {"resourceVersion": str(version), "labels": {POD_LABEL: "w"}}}


@pytest.mark.parametrize("reborn", ["2026-11-21T10:00:00Z", "2026-11-21T10:00:07Z"])
async def test_a_late_event_of_a_predecessor_touches_no_successor(reborn: str) -> None:
    """kopf keeps the events of one uid in order, and runs different uids beside each other."""
    ear = Ear()
    watched = Watched[str, str](ear, ear, read_uid, read_uid)
    for seen, what in ((watched.worker_seen, KIND), (watched.pod_seen, "Pod")):
        seen(one_life("old", "2026-11-21T10:00:00Z", 9), deleted=False)
        seen(one_life("new", reborn, 100), deleted=False)
        told = len(ear.versions)
        seen(one_life("old", "2026-11-21T10:00:00Z", 10), deleted=False)
        seen(one_life("old", "2026-11-21T10:00:00Z", 99), deleted=True)
        assert (len(ear.versions), ear.gone) == (told, []), f"what is owed of the new {what} stays owed"
    assert (watched.worker(("ns", "w")), watched.pods(("ns", "w"))) == ("new", ["new"])
    for seen in (watched.worker_seen, watched.pod_seen):
        seen(one_life("new", reborn, 101), deleted=True)
    assert (watched.worker(("ns", "w")), watched.pods(("ns", "w")), ear.gone) == (None, [], ["w", "w"])


async def test_a_successor_needs_no_word_of_its_predecessors_end() -> None:
    ear = Ear()
    watched = Watched[str, str](ear, ear, read_uid, read_uid)
    watched.worker_seen(one_life("old", "2026-11-21T10:00:00Z", 9), deleted=False)
    watched.vanished((KIND, "ns", "w"))
    watched.worker_seen(one_life("new", "2026-11-21T09:00:00Z", 3), deleted=False)
    assert watched.worker(("ns", "w")) == "new", "from a cluster that was set back, say"


async def test_before_the_start_nothing_is_known() -> None:
    watched = Watched[Any, Any](Ear(), Ear(), lambda body: body, lambda body: body)
    assert (watched.worker(("ns", "w")), watched.pods(("ns", "w"))) == (None, [])


# The traps


async def test_a_watch_over_less_than_everything_ends_instead_of_idling(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kopf looks once which kinds there are, warns about what is not there, and watches nothing for ever."""
    api_server.install_crd(CRD)
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig()))
    monkeypatch.setattr(watching_module, "VERSION", "v9")
    watched = Watched[Any, Any](Ear(), Ear(), lambda body: body, lambda body: body)
    settings, flags = OperatorSettings.from_env({"RHAPSODE_WATCH_NAMESPACES": namespace}), asyncio.Event()
    with pytest.raises(RetryableError, match="does not serve"):
        async with asyncio.timeout(DEADLINE_S):
            await watch(watched, settings, on_start=nothing, on_stop=nothing, ready=asyncio.Event(), stop=flags)
    await settle()


@pytest.fixture
def ours() -> Any:
    return kopf_settings(OperatorSettings.from_env({}))


def test_the_label_selector_is_found_for_pods_and_for_nothing_else(ours: Any) -> None:
    """The documented form 'v1/pods' matches nothing; ours must match what kopf asks for."""
    matching = [label for selector, label in ours.watching.label_selectors.items() if selector.check(PODS)]
    assert matching == [POD_LABEL]


def test_kopf_scans_posts_and_limits_nothing(ours: Any) -> None:
    assert ours.scanning.disabled
    assert not ours.posting.enabled
    assert ours.queueing.worker_limit is None
    assert not ours.watching.initial_streaming
    assert ours.process.ultimate_exiting_timeout < 30


def test_kopf_keeps_few_whole_bodies_at_once(ours: Any) -> None:
    """It keeps each object's last body until the object's task has been idle for so long: 5 s are a whole list."""
    assert ours.watching.chunk_size <= 200
    assert ours.queueing.idle_timeout <= 0.1


def test_the_finalizer_that_kopf_would_strip_is_nobodys(ours: Any) -> None:
    assert ours.persistence.finalizer == "rhapsode.dev/unused"


async def test_no_handler_needs_a_finalizer_or_an_annotation() -> None:
    watched = Watched[Any, Any](Ear(), Ear(), lambda body: body, lambda body: body)
    registry = make_registry(watched, nothing, nothing)
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
    assert not registry._indexing.get_all_handlers(), "each object would wake every object that waits at the start"
    assert len(list(registry._watching.get_all_handlers())) == 2
    for handlers in (registry._watching, registry._activities):
        assert all(inspect.iscoroutinefunction(handler.fn) for handler in handlers.get_all_handlers())


async def test_a_user_without_a_name_may_watch(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image's user is a number that no file of the image names, and kopf asks for the name."""

    def nameless() -> str:
        raise OSError("No username set in the environment")

    monkeypatch.setattr(getpass, "getuser", nameless)
    async with watching(api_server, namespace, monkeypatch, lambda body: body) as (watched, _):
        api_server.post(workers_of(namespace), worker("w"))
        await until(lambda: watched.worker((namespace, "w")), "the resource is known")

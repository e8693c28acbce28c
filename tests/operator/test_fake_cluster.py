"""The fake cluster keeps the promises of a real one: each test is asked of both."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from rhapsode_operator.errors import GoneError, RefusedError, RetryableError
from rhapsode_operator.kube import Kube
from support.api_server import ApiServer
from support.documents import ROOT
from support.fake_cluster import FakeCluster
from support.kube import connected
from support.snapshots import resource

JSON = dict[str, Any]
Cluster = FakeCluster | Kube
US, THEM = "rhapsode-operator", "somebody"


@pytest.fixture(params=["fake", "real"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    if request.param == "fake":
        yield FakeCluster()
        return
    server: ApiServer = request.getfixturevalue("api_server")
    server.install_crd(ROOT / "crds/inferenceworkers.rhapsode.dev.yaml")
    async with connected(server) as kube:
        yield kube


def service(namespace: str, selector: JSON, port: int = 80) -> JSON:
    spec = {"selector": selector, "ports": [{"port": port, "protocol": "TCP"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": "w"}, "spec": spec}


async def test_a_name_exists_once(cluster: Cluster, namespace: str) -> None:
    first = await cluster.create(service(namespace, {"a": "b"}), manager=US)
    with pytest.raises(RetryableError) as caught:
        await cluster.create(service(namespace, {"c": "d"}), manager=THEM)
    assert caught.value.status == 409
    found = await cluster.read("Service", namespace, "w")
    assert found is not None
    assert (found["spec"]["selector"], found["metadata"]["uid"]) == ({"a": "b"}, first["metadata"]["uid"])


async def test_applying_the_same_again_is_no_write(cluster: Cluster, namespace: str) -> None:
    first = await cluster.apply(service(namespace, {"a": "b"}), manager=US)
    second = await cluster.apply(service(namespace, {"a": "b"}), manager=US, force=False)
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_what_another_manager_has_is_a_conflict_without_force(cluster: Cluster, namespace: str) -> None:
    await cluster.create(service(namespace, {"a": "b"}), manager=THEM)
    with pytest.raises(RetryableError) as caught:
        await cluster.apply(service(namespace, {"c": "d"}), manager=US, force=False)
    assert caught.value.status == 409
    taken = await cluster.apply(service(namespace, {"c": "d"}), manager=US)
    assert taken["spec"]["selector"] == {"c": "d"}


async def test_applying_to_what_another_made_merges_without_a_word(cluster: Cluster, namespace: str) -> None:
    """So nothing may be applied that was not seen to be ours."""
    theirs = service(namespace, {})
    del theirs["spec"]["selector"]
    await cluster.create(theirs, manager=THEM)
    merged = await cluster.apply(service(namespace, {"c": "d"}), manager=US, force=False)
    assert merged["spec"]["selector"] == {"c": "d"}


async def test_deletion_means_this_very_object(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(service(namespace, {"a": "b"}), manager=US)
    other = "00000000-0000-0000-0000-000000000000"
    assert not await cluster.delete("Service", namespace, "w", other)
    assert await cluster.read("Service", namespace, "w")
    assert await cluster.delete("Service", namespace, "w", made["metadata"]["uid"])
    assert await cluster.read("Service", namespace, "w") is None
    assert not await cluster.delete("Service", namespace, "w", made["metadata"]["uid"])


async def test_two_managers_share_a_status_and_its_pods(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(unborn(namespace), manager=THEM)
    about = {name: made[name] for name in ("apiVersion", "kind")}
    about["metadata"] = {name: made["metadata"][name] for name in ("name", "namespace", "uid")}
    await cluster.apply_status(
        about | {"status": {"replicas": 1, "workers": [{"pod": "w-0", "ready": True}]}}, manager=US
    )
    loads = [{"pod": "w-0", "load": {"stage": "x"}}]
    shared = await cluster.apply_status(about | {"status": {"workers": loads}}, manager="rhapsode-telemetry")
    assert shared["status"]["workers"] == [{"pod": "w-0", "ready": True, "load": {"stage": "x"}}]
    without = await cluster.apply_status(about | {"status": {}}, manager="rhapsode-telemetry")
    assert without["status"]["workers"] == [{"pod": "w-0", "ready": True}]


async def test_a_status_reaches_whoever_has_the_name(cluster: Cluster, namespace: str) -> None:
    """The uid is no condition here: what is told of one that is gone must be put right by the next look."""
    made = await cluster.create(unborn(namespace), manager=THEM)
    about = unborn(namespace) | {"status": {"replicas": 2}}
    del about["spec"]
    about["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    written = await cluster.apply_status(about, manager=US)
    assert (written["metadata"]["uid"], written["status"]["replicas"]) == (made["metadata"]["uid"], 2)


async def test_a_status_is_taken_back_by_saying_nothing_of_it(cluster: Cluster, namespace: str) -> None:
    await cluster.create(unborn(namespace), manager=THEM)
    about = unborn(namespace)
    del about["spec"]
    await cluster.apply_status(about | {"status": {"replicas": 2}}, manager=US)
    with pytest.raises(RefusedError):
        await cluster.apply_status(about | {"status": {}}, manager=US)
    assert not (await cluster.apply_status(about, manager=US)).get("status")


async def test_what_is_not_there_has_no_status_and_no_annotations(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(GoneError):
        await cluster.apply_status(unborn(namespace) | {"status": {}}, manager=US)
    with pytest.raises(GoneError):
        await cluster.annotate(namespace, "w-0", {"a": "b"})


def unborn(namespace: str) -> JSON:
    made = resource(namespace=namespace)
    del made["metadata"]["uid"], made["metadata"]["generation"]
    return made

"""Objects with names that we need and that are not ours: told of, waited for, and never touched."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from rhapsode_operator.errors import RetryableError
from rhapsode_operator.kube import Kube, path_to
from rhapsode_operator.weighing import TAKEN_S
from support.api_server import ApiServer
from support.documents import ROOT
from support.fake_cluster import FakeCluster
from support.kube import connected
from support.reconcilers import become, cluster_with, reconciling
from support.snapshots import SERVING, UID, pod_body, resource

JSON = dict[str, Any]
FAILED = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no healthy GPU"}


def stranger(kind: str, name: str) -> JSON:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "ns"}, "spec": {"theirs": True}}


async def test_an_object_of_others_is_told_of_and_not_touched() -> None:
    for kind, name in (("Service", "w"), ("Service", "w-pods"), ("PodDisruptionBudget", "w"), ("Pod", "w-0")):
        cluster = cluster_with(replicas=2)
        theirs = cluster.put(stranger(kind, name))
        async with reconciling(cluster) as operator:
            error = await operator.refuse()
            assert operator.condition().reason == "NameTaken"
            assert f"{kind} {name} exists and is not ours" in operator.condition().message
            assert isinstance(error, RetryableError), "nobody tells when the name is free"
            assert cluster.get(kind, name) == theirs
            cluster.vanish(kind, name)
            operator.now += TAKEN_S
            await operator.run(2)
            assert operator.condition("Stalled").status == "False"


async def test_a_volume_of_others_is_not_used_and_not_owned() -> None:
    cluster = cluster_with(cache={"size": "1Gi"})
    theirs = cluster.put(stranger("PersistentVolumeClaim", "w-0-cache"))
    async with reconciling(cluster) as operator:
        await operator.refuse()
        assert operator.condition().reason == "NameTaken"
        assert cluster.get("PersistentVolumeClaim", "w-0-cache") == theirs
        assert cluster.names("Pod") == []


async def test_pods_of_an_earlier_resource_of_that_name_are_waited_for() -> None:
    cluster = cluster_with()
    old = cluster.put({"apiVersion": "v1", "kind": "Pod"} | pod_body(owner="earlier", **SERVING))
    async with reconciling(cluster) as operator:
        await operator.run(3)
        assert cluster.get("Pod", "w-0") == old
        assert cluster.count("create", "Pod") == cluster.count("delete") == 0
        assert operator.condition().reason == "Creating"
        assert operator.status.replicas == 0
        cluster.vanish("Pod", "w-0")
        await operator.run(2)
        assert cluster.get("Pod", "w-0")["metadata"]["ownerReferences"][0]["uid"] == UID


async def test_a_pod_that_was_left_an_orphan_is_a_name_that_is_taken() -> None:
    cluster = cluster_with()
    orphan: JSON = {"apiVersion": "v1", "kind": "Pod"} | pod_body(**SERVING)
    del orphan["metadata"]["ownerReferences"]
    cluster.put(orphan)
    async with reconciling(cluster) as operator:
        await operator.refuse()
        assert operator.condition().reason == "NameTaken"


async def test_a_pod_that_only_wears_our_label_is_nothing_to_us() -> None:
    cluster = cluster_with()
    theirs: JSON = {"apiVersion": "v1", "kind": "Pod"} | pod_body("debug-w", owner="else", **SERVING)
    theirs["metadata"]["labels"] = {"rhapsode.dev/worker": "w"}
    cluster.put(theirs)
    async with reconciling(cluster) as operator:
        await operator.run(2)
        assert cluster.names("Pod") == ["debug-w", "w-0"]
        assert operator.status.replicas == 1


async def test_a_resource_that_is_made_anew_waits_for_what_the_earlier_one_left_and_begins_anew() -> None:
    cluster = cluster_with(replicas=2)
    async with reconciling(cluster) as operator:
        await operator.run(2)
        become(cluster, "w-0", FAILED)
        await operator.run()
        operator.now += 11
        await operator.run(2)
        left = {named: body for named, body in cluster.objects.items() if named[0] != "InferenceWorker"}
        cluster.vanish("InferenceWorker", "w")
        cluster.put(resource(uid="another", replicas=2))
        assert isinstance(await operator.refuse(), RetryableError)
        assert {named: cluster.objects[named] for named in left} == left, "nothing of it is touched"
        for kind, _, name in left:
            cluster.vanish(kind, name)
        await operator.run(2)
        assert cluster.get("Pod", "w-0")["metadata"]["ownerReferences"][0]["uid"] == "another"
        assert operator.status.workers[0].replaced == 0
    assert "Warning NameTaken" not in operator.reasons()


# On a real API server


@pytest.fixture
async def kube(api_server: ApiServer) -> AsyncIterator[Kube]:
    api_server.install_crd(ROOT / "crds/inferenceworkers.rhapsode.dev.yaml")
    async with connected(api_server) as connection:
        yield connection


THEIRS: list[JSON] = [
    {"kind": "Service", "metadata": {"name": "w"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "shop"}}},
    {"kind": "Service", "metadata": {"name": "w-pods"}, "spec": {"ports": [{"port": 80}]}},
    {"kind": "PodDisruptionBudget", "metadata": {"name": "w"}, "spec": {"minAvailable": 1}},
    {"kind": "Pod", "metadata": {"name": "w-0"}, "spec": {"containers": [{"name": "worker", "image": "theirs"}]}},
    {
        "kind": "PersistentVolumeClaim", "metadata": {"name": "w-0-cache"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    },
]  # fmt: skip


@pytest.mark.parametrize("theirs", THEIRS, ids=lambda body: f"{body['kind']}-{body['metadata']['name']}")
async def test_a_real_object_of_others_stays_as_it_is_to_the_last_field(
    theirs: JSON, api_server: ApiServer, kube: Kube, namespace: str
) -> None:
    """Also one that says nothing which ours would contradict: server-side apply would merge the two."""
    made = api_server.post(path_to(theirs["kind"], namespace), theirs)
    where = path_to("InferenceWorker", namespace)
    stored = api_server.post(where, resource(namespace=namespace, uid="", replicas=2, cache={"size": "1Gi"}))
    view = FakeCluster()
    view.put(stored)
    async with reconciling(view, kube) as operator:
        error = await operator.refuse((namespace, "w"))
        assert error.reason == "NameTaken"
    assert api_server.get(path_to(theirs["kind"], namespace, made["metadata"]["name"])) == made
    status = api_server.get(f"{where}/w")["status"]
    (stalled,) = [one for one in status["conditions"] if one["type"] == "Stalled"]
    assert (stalled["status"], stalled["reason"]) == ("True", "NameTaken")
    assert f"{theirs['kind']} {made['metadata']['name']} exists and is not ours" in stalled["message"]

"""The client: what it writes to a real API server, and what it makes of its refusals."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from rhapsode_operator.errors import ForbiddenError, GoneError, RefusedError, RetryableError
from rhapsode_operator.kube import Kube
from support.api_server import ApiServer
from support.documents import ROOT
from support.kube import Calls, connected

CRD = ROOT / "crds/inferenceworkers.rhapsode.dev.yaml"
MANAGER = "rhapsode-operator"


@pytest.fixture
async def kube(api_server: ApiServer) -> AsyncIterator[Kube]:
    async with connected(api_server) as connection:
        yield connection


def service(namespace: str, **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": "words", "annotations": annotations},
        "spec": {"ports": [{"port": 80, "protocol": "TCP"}]},
    }


def pod(namespace: str, name: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }


def worker(namespace: str, name: str = "w") -> dict[str, Any]:
    return {
        "apiVersion": "rhapsode.dev/v1alpha1",
        "kind": "InferenceWorker",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"model": {"source": "builtin://simulator"}},
    }


# Writing


async def test_apply_creates_changes_and_removes_what_it_owns_and_nothing_else(
    api_server: ApiServer, kube: Kube, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/services/words"
    await kube.apply(service(namespace, a="1", b="2"), manager=MANAGER)
    api_server.patch(path, {"metadata": {"annotations": {"theirs": "x"}}})
    written = await kube.apply(service(namespace, a="ä ☺"), manager=MANAGER)
    assert written["metadata"]["annotations"] == {"a": "ä ☺", "theirs": "x"}
    assert api_server.get(path)["metadata"]["annotations"] == written["metadata"]["annotations"]


async def test_applying_the_same_twice_is_no_write(kube: Kube, namespace: str) -> None:
    first = await kube.apply(service(namespace, a="1"), manager=MANAGER)
    second = await kube.apply(service(namespace, a="1"), manager=MANAGER)
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_two_managers_of_a_status_do_not_clobber_each_other(
    api_server: ApiServer, kube: Kube, namespace: str
) -> None:
    api_server.install_crd(CRD)
    await kube.apply(worker(namespace), manager=MANAGER)
    here = {key: value for key, value in worker(namespace).items() if key != "spec"}
    await kube.apply_status(here | {"status": {"phase": "Loading"}}, manager=MANAGER)
    told = {"vram": {"source": "none", "summary": "-"}}
    written = await kube.apply_status(here | {"status": told}, manager="rhapsode-telemetry")
    assert written["status"]["phase"] == "Loading"
    assert written["status"]["vram"]["summary"] == "-"


async def test_annotations_are_set_and_removed(kube: Kube, namespace: str) -> None:
    await kube.apply(pod(namespace), manager=MANAGER)
    await kube.annotate(namespace, "p", {"a": "1", "b": "2"})
    changed = await kube.annotate(namespace, "p", {"a": None})
    assert changed["metadata"]["annotations"] == {"b": "2"}


async def test_delete_means_this_very_object(kube: Kube, namespace: str) -> None:
    written = await kube.apply(service(namespace), manager=MANAGER)
    uid = written["metadata"]["uid"]
    other = "00000000-0000-0000-0000-000000000000"
    assert not await kube.delete("Service", namespace, "words", other)
    assert await kube.read("Service", namespace, "words")
    assert await kube.delete("Service", namespace, "words", uid)
    assert await kube.read("Service", namespace, "words") is None
    assert not await kube.delete("Service", namespace, "words", uid)


async def test_an_event_is_posted_and_described(api_server: ApiServer, kube: Kube, namespace: str) -> None:
    about = await kube.apply(pod(namespace), manager=MANAGER)
    moment = "2026-11-21T00:00:00.000000Z"
    regarding = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "p"}
    body = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": namespace, "name": "p.1"},
        "eventTime": moment,
        "reportingController": "rhapsode.dev/operator",
        "reportingInstance": "one",
        "action": "Load",
        "reason": "Loading",
        "type": "Normal",
        "note": "The worker loads.",
        "regarding": regarding | {"uid": about["metadata"]["uid"]},
    }
    await kube.create_event(body)
    assert "The worker loads." in api_server.kubectl("describe", "pod", "p", "-n", namespace)


async def test_each_write_is_told_to_who_listens(kube: Kube, namespace: str) -> None:
    heard: list[dict[str, Any]] = []
    kube.on_written = heard.append
    await kube.apply(pod(namespace), manager=MANAGER)
    assert [(body["kind"], body["metadata"]["name"]) for body in heard] == [("Pod", "p")]


async def test_names_come_in_pages(kube: Kube, namespace: str) -> None:
    for number in range(5):
        await kube.apply(pod(namespace, f"p-{number}"), manager=MANAGER)
    first, go_on = await kube.list_names("Pod", namespace, 3)
    rest, end = await kube.list_names("Pod", namespace, 3, go_on=go_on)
    assert [(place, name) for place, name, _ in first + rest] == [(namespace, f"p-{number}") for number in range(5)]
    assert all(version.isdecimal() for _, _, version in first + rest)
    assert end == ""
    await kube.annotate(namespace, "p-0", {"a": "1"})
    assert await kube.list_names("Pod", namespace, 3, selector="nobody/has-this") == ([], "")
    assert await kube.exists("Pod", namespace, "p-0")
    assert not await kube.exists("Pod", namespace, "p-9")


# Refusals of a real API server


async def test_a_field_that_nobody_knows_is_refused_for_good(kube: Kube, namespace: str) -> None:
    with pytest.raises(RefusedError, match="sped"):
        await kube.apply(pod(namespace) | {"sped": {}}, manager=MANAGER)


async def test_a_wrong_value_is_refused_for_good(kube: Kube, namespace: str) -> None:
    with pytest.raises(RefusedError, match="restartPolicy") as caught:
        await kube.apply(pod(namespace, restartPolicy="Perhaps"), manager=MANAGER)
    assert (caught.value.status, caught.value.reason) == (422, "Invalid")


async def test_a_namespace_that_is_not_there_is_gone(kube: Kube) -> None:
    with pytest.raises(GoneError, match='"nowhere" not found'):
        await kube.apply(pod("nowhere"), manager=MANAGER)


async def test_what_the_role_does_not_allow_is_forbidden(api_server: ApiServer, namespace: str) -> None:
    token = api_server.service_account_token(namespace, "default")
    async with connected(api_server.kubeconfig(token)) as kube:
        with pytest.raises(ForbiddenError, match="cannot patch resource"):
            await kube.apply(pod(namespace), manager=MANAGER)
        assert not await kube.may("create", "", "pods", namespace)
    async with connected(api_server) as admin:
        assert await admin.may("create", "", "pods", namespace)


async def test_an_api_server_that_is_not_there_is_retried(api_server: ApiServer, namespace: str) -> None:
    calls = Calls()
    async with connected(api_server, calls) as kube:
        api_server.kill()
        try:
            with pytest.raises(RetryableError, match="cannot be reached"):
                await kube.read("Pod", namespace, "p")
        finally:
            api_server.start()
        assert calls.made == {("GET", "none"): 1}
        assert await kube.read("Pod", namespace, "p") is None

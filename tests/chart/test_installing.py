"""The chart on a real API server: install, upgrade, roll back, uninstall; what it makes is taken as it is."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.api_client import ApiError
from support.api_server import ApiServer
from support.charts import EVERYTHING, render
from support.documents import ROOT
from support.processes import wait_until
from support.releases import CRD, WORKERS, Release

JSON = dict[str, Any]
EXAMPLES = [
    path
    for path in sorted((ROOT / "examples").rglob("*.yaml"))
    if any(one and one.get("kind") == "InferenceWorker" for one in yaml.safe_load_all(path.read_text()))
]
SOLO = {
    "apiVersion": "rhapsode.dev/v1alpha1",
    "kind": "InferenceWorker",
    "metadata": {"name": "solo"},
    "spec": {"model": {"source": "builtin://simulator"}, "engine": {"name": "Simulator"}},
}


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
@pytest.mark.parametrize("namespaced", [False, True], ids=["cluster", "namespaces"])
def test_the_api_server_knows_every_field(chart_server: ApiServer, values: JSON, namespaced: bool) -> None:
    namespace = chart_server.namespace()
    served = {"watchNamespaces": [namespace]} if namespaced else {"networkPolicy.relays.namespaces": [namespace]}
    made = [_placed(one, namespace) for one in render(values | served)]
    text = yaml.safe_dump_all(made)
    said = chart_server.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=text)
    assert said.count("(server dry run)") == len(made)


def _placed(one: JSON, namespace: str) -> JSON:
    """Return an object in a namespace that there is."""
    metadata = one["metadata"]
    return one | {"metadata": metadata | ({"namespace": namespace} if "namespace" in metadata else {})}


def test_install_upgrade_roll_back_uninstall(release: Release) -> None:
    said = release.install({"image.tag": "one"})
    assert "kubectl -n default apply -f examples/smollm.yaml" in said
    release.server.kubectl("-n", release.namespace, "apply", "-f", "-", input=json.dumps(SOLO))
    release.upgrade({"image.tag": "two", "replicas": 3})
    assert _image_and_replicas(release) == ("rhapsode-operator:two", 3)
    release.helm("rollback", "rhapsode", "1")
    assert _image_and_replicas(release) == ("rhapsode-operator:one", 2)
    release.helm("uninstall", "rhapsode")
    assert release.server.admin.find(CRD), "the CRD is kept"
    assert len(release.server.admin.items(WORKERS)) == 1, "and with it every worker"
    release.install({"image.tag": "three"})
    assert _image_and_replicas(release) == ("rhapsode-operator:three", 2)


def _image_and_replicas(release: Release) -> tuple[str, int]:
    spec = release.deployment()["spec"]
    return spec["template"]["spec"]["containers"][0]["image"], spec["replicas"]


def test_an_upgrade_upgrades_the_crd(release: Release) -> None:
    release.install()
    release.server.patch(CRD, {"spec": {"names": {"shortNames": ["old"]}}})
    release.helm("upgrade", "rhapsode", "charts/rhapsode", "--force-conflicts")
    assert release.server.get(CRD)["spec"]["names"]["shortNames"] == ["iw"]


def test_a_crd_that_is_not_kept_goes_with_the_chart(release: Release) -> None:
    release.install({"crds.keep": False})
    release.helm("uninstall", "rhapsode")
    wait_until(lambda: release.server.admin.find(CRD) is None, "the CRD is gone")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_example_is_taken(release: Release, example: Path) -> None:
    release.install()
    release.server.kubectl("-n", release.namespace, "apply", "--validate=strict", "-f", str(example))
    assert release.server.admin.items(WORKERS)


def test_the_operator_s_pod_is_taken_where_pods_are_restricted(release: Release) -> None:
    release.install()
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    release.server.patch(f"/api/v1/namespaces/{release.namespace}", {"metadata": {"labels": enforce}})
    template = release.deployment()["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": template["metadata"] | {"name": "one"}}
    free = json.loads(json.dumps(pod))
    del free["spec"]["containers"][0]["securityContext"]
    wait_until(lambda: "violates PodSecurity" in _complaint(release, free), "the label is heeded")
    assert _complaint(release, pod) == ""


def _complaint(release: Release, pod: JSON) -> str:
    """Return why a pod would not be let in."""
    try:
        release.server.post(f"/api/v1/namespaces/{release.namespace}/pods", pod, dryRun="All")
    except ApiError as exc:
        return str(exc)
    return ""

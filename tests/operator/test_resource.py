"""The resource as the API server keeps it: its words, its defaults, and what may not change."""

from typing import Any

import msgspec
import pytest

from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.schemas import custom_resource_definition, root_schema, undescribed
from rhapsode_contract.validating import decode_manifest
from rhapsode_operator.observing import read_worker
from support.api_client import ApiError
from support.api_server import ApiServer
from support.contracts import contract, serving
from support.documents import ROOT
from support.manifests import GOOD, changed

CRD = ROOT / "crds/inferenceworkers.rhapsode.dev.yaml"
WORKERS = "/apis/rhapsode.dev/v1alpha1/namespaces/{}/inferenceworkers"


@pytest.fixture(scope="module")
def cluster(api_server: ApiServer) -> ApiServer:
    api_server.install_crd(CRD)
    return api_server


def create(cluster: ApiServer, namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
    return cluster.post(WORKERS.format(namespace), manifest, fieldValidation="Strict")


def test_every_field_is_described() -> None:
    assert list(undescribed(root_schema())) == []
    assert list(undescribed({"properties": {"a": {"type": "string"}}})) == ["a"]


def test_the_defaults_of_the_api_server_are_those_of_the_types(cluster: ApiServer, namespace: str) -> None:
    stored = create(cluster, namespace, GOOD)
    filled = msgspec.convert(stored["spec"], type(decode_manifest(GOOD).spec))
    assert filled == decode_manifest(GOOD).spec
    assert stored["spec"]["rollout"] == {"surge": 0, "timeoutSeconds": 300, "waitForIdle": True}
    assert stored["spec"]["replicas"] == 1


def test_a_contract_is_kept_as_it_was_written_and_filled_as_we_fill_it(cluster: ApiServer, namespace: str) -> None:
    written = serving(contract())
    stored = create(cluster, namespace, written)
    (kept,) = stored["spec"]["outcomes"]
    assert kept["schema"] == written["spec"]["outcomes"][0]["schema"]
    assert [rule.get("fallback") for rule in kept["normalize"]] == ["A Notable Location", "", [], None]
    assert decode_manifest(stored).spec == decode_manifest(written).spec


def test_explain_says_what_a_field_is_and_its_bounds(cluster: ApiServer) -> None:
    said = cluster.kubectl("explain", "inferenceworker.spec.rollout.timeoutSeconds")
    assert "in seconds" in said
    assert "0..86400" in said
    assert "Default: 300." in said
    conditions = cluster.kubectl("explain", "iw.status.conditions")
    assert "Why, in one stable word" in conditions


def test_it_is_found_under_its_short_name_and_its_category(cluster: ApiServer, namespace: str) -> None:
    create(cluster, namespace, GOOD)
    header = cluster.kubectl("get", "iw", "-n", namespace).splitlines()[0].split()
    assert header == ["NAME", "READY", "PHASE", "LOAD", "VRAM", "MODEL", "AGE"]
    wide = cluster.kubectl("get", "ml", "-n", namespace, "-o", "wide").splitlines()[0].split()
    assert wide[7:] == ["ENGINE", "NODE", "REASON", "ENDPOINT", "NARRATION"]


def test_a_cache_cannot_change_its_size(cluster: ApiServer, namespace: str) -> None:
    create(cluster, namespace, changed("spec.cache", {"size": "10Gi"}))
    path = f"{WORKERS.format(namespace)}/smollm"
    with pytest.raises(ApiError, match=r"spec.cache.*cannot be changed; delete the worker and create it again"):
        cluster.patch(path, {"spec": {"cache": {"size": "20Gi"}}})
    assert cluster.patch(path, {"spec": {"replicas": 3}})["spec"]["replicas"] == 3


def test_scaling_is_a_subresource(cluster: ApiServer, namespace: str) -> None:
    create(cluster, namespace, GOOD)
    cluster.kubectl("scale", "iw/smollm", "--replicas=4", "-n", namespace)
    assert cluster.get(f"{WORKERS.format(namespace)}/smollm")["spec"]["replicas"] == 4


def test_null_is_absent_for_both(cluster: ApiServer, namespace: str) -> None:
    manifest = changed("spec.relay.drainSeconds", None)
    manifest["spec"]["gpus"] = None
    stored = create(cluster, namespace, manifest)
    assert stored["spec"]["relay"]["drainSeconds"] == decode_manifest(manifest).spec.relay.drain_seconds == 60


def test_what_an_older_crd_let_in_is_a_problem_and_no_crash() -> None:
    body = changed("spec.engine.maxSequences", "many") | {
        "metadata": {"name": "smollm", "namespace": "n", "uid": "u", "generation": 3}
    }
    worker = read_worker(body)
    assert worker.resource is None
    assert "maxSequences" in worker.problem
    assert worker.generation == 3


def test_every_bound_of_the_types_stands_in_the_crd() -> None:
    """A field of the types that the CRD does not have would be cut off by the API server without a word."""
    schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    builtins = msgspec.to_builtins(msgspec.convert(GOOD, InferenceWorker))
    assert set(builtins["spec"]) <= set(schema["properties"]["spec"]["properties"])


def test_a_name_that_no_service_may_have_is_refused_at_once(cluster: ApiServer, namespace: str) -> None:
    with pytest.raises(ApiError, match=r"metadata.name: expected .* beginning with a letter"):
        create(cluster, namespace, changed("metadata.name", "7b-chat"))

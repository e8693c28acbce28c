"""The API server refuses a bad manifest, with the words that `rhapsode play` says."""

import re
from typing import Any

import pytest

from rhapsode_contract.validating import ManifestError, decode_manifest
from support.api_client import ApiError
from support.api_server import ApiServer
from support.contracts import BAD_CONTRACTS, contract, serving
from support.documents import ROOT
from support.manifests import BAD, changed

CRD = ROOT / "crds/inferenceworkers.rhapsode.dev.yaml"
NOT_OURS = {
    "apiVersion": "the API server has no such kind",
    "kind": "the API server has no such kind",
    "metadata": "Kubernetes judges metadata itself",
    "spec.engine.options={1: 2}": "JSON has no such names",
}
"""What Kubernetes refuses before our schema is asked, in words of its own."""


@pytest.fixture(scope="module")
def cluster(api_server: ApiServer) -> ApiServer:
    api_server.install_crd(CRD)
    return api_server


def _is_ours(path: str, value: Any) -> bool:
    return path.partition(".")[0] not in NOT_OURS and f"{path}={value}" not in NOT_OURS


def _refusal(cluster: ApiServer, manifest: dict[str, Any]) -> str:
    path = "/apis/rhapsode.dev/v1alpha1/namespaces/default/inferenceworkers"
    with pytest.raises(ApiError) as caught:
        cluster.post(path, manifest, fieldValidation="Strict", dryRun="All")
    return caught.value.message


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [one for one in BAD if _is_ours(one[0], one[1])],
    ids=[f"{path}={value!r:.30}" for path, value, _ in BAD if _is_ours(path, value)],
)
def test_both_refuse_it_with_the_same_words(cluster: ApiServer, path: str, value: Any, message: str) -> None:
    manifest = changed(path, value)
    with pytest.raises(ManifestError) as ours:
        decode_manifest(manifest)
    _is_said_by_both(ours.value, _refusal(cluster, manifest))


def _is_said_by_both(ours: ManifestError, said: str) -> None:
    where, rule = ours.problems[0]
    words = rule.partition(", got")[0].partition(";")[0]
    assert where in re.sub(r"\[([a-z]\w*)\]", r".\1", said)  # limits[cpu] is limits.cpu
    assert words in said or (words == "required" and "Required value" in said)


@pytest.mark.parametrize(
    ("path", "value"),
    [one[:2] for one in BAD_CONTRACTS],
    ids=[f"{path}={value!r:.30}" for path, value, _ in BAD_CONTRACTS],
)
def test_both_refuse_a_contract_with_the_same_words(cluster: ApiServer, path: str, value: Any) -> None:
    manifest = serving(contract(path, value))
    with pytest.raises(ManifestError) as ours:
        decode_manifest(manifest)
    _is_said_by_both(ours.value, _refusal(cluster, manifest))


def test_both_refuse_too_many_contracts_and_two_of_one_name(cluster: ApiServer) -> None:
    for manifest in (serving(contract(), contract()), serving(*(contract("name", f"c{n}") for n in range(17)))):
        with pytest.raises(ManifestError) as ours:
            decode_manifest(manifest)
        _is_said_by_both(ours.value, _refusal(cluster, manifest))


def test_the_largest_contracts_are_let_in(cluster: ApiServer) -> None:
    """No rule may cost more than the API server is ready to spend."""
    largest = contract("normalize", [{"path": f"/intents/{'x' * 240}{n}"} for n in range(64)])
    largest["sinks"] = [{**largest["sinks"][0], "name": f"s{n}", "url": f"http://x/{'y' * 1000}"} for n in range(16)]
    largest["prompt"]["narrative"] = "x" * 16_384
    path = "/apis/rhapsode.dev/v1alpha1/namespaces/default/inferenceworkers"
    manifest = serving(*({**largest, "name": f"c{n}"} for n in range(16)))
    decode_manifest(manifest)
    cluster.post(path, manifest, fieldValidation="Strict", dryRun="All")

"""Where a model comes from, end to end: a hub that wants a token, a fetch that is killed, a claim that is mounted.

The model is a real one and speaks; the hub is ours, and is asked by the hub's own client.
"""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from support.hub import Hub, Repository
from support.kubelet import Kubelet
from support.models import smollm
from support.operators import PATIENCE_S, Cluster
from support.pod_calls import PodCall
from support.processes import wait_until
from support.streams import text_of
from support.troubles import assert_told

JSON = dict[str, Any]
TOKEN = "hf_onlyForThoseWhoMayRead"
SOURCE = "hf://org/smollm"
ENGINE = {"name": "OpenVINO", "maxSequences": 2, "maxContextTokens": 512}
pytestmark = pytest.mark.model


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with a real model, which only who has a token may read."""
    with Hub({"org/smollm": Repository({"smollm.gguf": smollm().read_bytes()}, token=TOKEN, gated=True)}) as running:
        yield running


@pytest.fixture
def kubelet(cluster: Cluster, hub: Hub) -> Iterator[Kubelet]:
    with Kubelet(cluster.server, environ={"HF_ENDPOINT": hub.url}) as running:
        yield running


def give_token(cluster: Cluster, token: str) -> None:
    secret = {"metadata": {"name": "hub"}, "data": {"token": base64.b64encode(token.encode()).decode()}}
    cluster.kubectl("apply", "-f", "-", body={"apiVersion": "v1", "kind": "Secret", **secret})


def ask(kubelet: Kubelet, pod: str) -> str:
    """Return what a pod's model says."""
    with PodCall(kubelet.address(pod), tokens=8, prompt="Once upon a time") as call:
        call.finish()
        return text_of(call.events)


def bytes_here(cluster: Cluster, kubelet: Kubelet) -> int:
    """Return how much of the model has come to the cache that pods share."""
    parts = kubelet.claim(cluster.namespace, "cache").rglob("*.incomplete")
    return sum(part.stat().st_size for part in parts)


def apply(cluster: Cluster) -> None:
    model = {"source": SOURCE, "tokenSecretRef": {"name": "hub"}}
    cluster.apply("m", model=model, engine=ENGINE, cache={"claim": "cache"})


def test_a_token_that_is_missing_or_that_the_hub_does_not_know_is_told_with_its_remedy(
    cluster: Cluster, kubelet: Kubelet, hub: Hub
) -> None:
    cluster.operate()
    apply(cluster)
    assert_told(cluster, "m", "ContainerConfig", "model of m-0", 'secret "hub" not found')
    give_token(cluster, "hf_another")
    assert_told(cluster, "m", "ModelGated", "hf://org/smollm is gated")
    assert hub.fetched() == []
    give_token(cluster, TOKEN)
    cluster.wait_ready("m")


def test_from_a_hub_through_a_kill_to_the_models_own_words(cluster: Cluster, kubelet: Kubelet, hub: Hub) -> None:
    operator = cluster.operate()
    give_token(cluster, TOKEN)
    hub.faults.pause_s = 0.02
    apply(cluster)
    seen = cluster.wait_status("m", "tells how far the fetch is", _fetches)
    assert seen["load"]["summary"].startswith("fetching the model ")
    assert_killed_it_goes_on(cluster, kubelet, hub)
    hub.faults.pause_s = 0
    status = cluster.wait_ready("m")
    assert status["load"]["summary"] == "loaded"
    assert ask(kubelet, "m-0")
    cluster.wait_told("m", "m-0: fetching the model")
    assert TOKEN not in kubelet.logs("m-0")
    assert TOKEN not in str(cluster.pods("m"))
    assert operator.errors == []
    assert_second_pod_fetches_nothing(cluster, kubelet, hub)


def assert_killed_it_goes_on(cluster: Cluster, kubelet: Kubelet, hub: Hub) -> None:
    """Kill the fetch when a part is on disk: not one byte of that part is asked for again."""
    wait_until(lambda: bytes_here(cluster, kubelet) > 8 << 20, "8 MiB are here", PATIENCE_S)
    before, here = len(hub.fetched()), bytes_here(cluster, kubelet)
    kubelet.kill("m-0", "model")
    wait_until(lambda: len(hub.fetched()) > before, "it is fetched on", PATIENCE_S)
    assert [one.began for one in hub.fetched()[before:] if one.began < here] == [], hub.asked


def assert_second_pod_fetches_nothing(cluster: Cluster, kubelet: Kubelet, hub: Hub) -> None:
    before = len(hub.fetched())
    cluster.kubectl("scale", "iw/m", "--replicas=2")
    cluster.wait_status("m", "two serve", lambda status: status.get("readyReplicas") == 2)
    assert len(hub.fetched()) == before
    assert "is in the cache" in kubelet.logs("m-1")


def _fetches(status: JSON) -> bool:
    load = status.get("load") or {}
    loads = any((one["type"], one["reason"]) == ("Ready", "Loading") for one in status.get("conditions") or ())
    return loads and load.get("stage") == "fetching the model" and "percent" in load


def test_from_a_claim_that_the_pod_mounts(cluster: Cluster, kubelet: Kubelet) -> None:
    cluster.operate()
    cluster.apply("m", model={"source": "pvc://models/small/smollm.gguf"}, engine=ENGINE)
    assert_told(cluster, "m", "ModelNotFound", "pvc://models/small/smollm.gguf does not exist")
    folder = kubelet.claim(cluster.namespace, "models") / "small"
    folder.mkdir()
    (folder / "smollm.gguf").symlink_to(smollm())
    cluster.wait_ready("m")
    assert ask(kubelet, "m-0")

"""What a resource becomes, to the letter: `golden/*.yaml` is what a reviewer reads.

After a change that is meant, `RHAPSODE_WRITE_GOLDEN=1 pytest tests/operator/test_building.py` writes them anew.
"""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract.resources import InferenceWorker
from rhapsode_operator.building import (
    PRESTOP_S,
    Blueprint,
    Images,
    build_budget,
    build_claim,
    build_pod,
    build_services,
    selector,
)
from rhapsode_operator.observing import HASH_ANNOTATION, MANIFEST_ANNOTATION, PROTECT_ANNOTATIONS
from support.contracts import contract
from support.snapshots import resource

JSON = dict[str, Any]
GOLDEN = Path(__file__).parent / "golden"
IMAGES = Images(
    relay="registry.example/rhapsode-relay:1", worker_cpu="registry.example/rhapsode-worker-cpu:1",
    worker_tensorrt_llm="registry.example/rhapsode-worker-tensorrt-llm:1",
)  # fmt: skip
GPU: JSON = {
    "model": {
        "source": "hf://Qwen/Qwen3-8B@main",
        "servedName": "qwen3-8b",
        "tokenSecretRef": {"name": "hub", "key": "read"},
    },
    "engine": {"name": "TensorRTLLM", "maxSequences": 64, "options": {"kvCacheFraction": 0.85}},
    "relay": {"drainSeconds": 120, "cors": {"allowedOrigins": ["https://chat.example.com"]}},
    "gpus": 2,
    "resources": {"worker": {"requests": {"cpu": "8", "memory": "64Gi"}, "limits": {"memory": "96Gi"}}},
    "cache": {"size": "200Gi", "storageClass": "fast"},
    "auth": {"secretRef": {"name": "chat-keys"}, "limits": {"streams": 20}},
    "outcomes": [contract()],
    "podTemplate": {
        "metadata": {"labels": {"team": "search"}, "annotations": {"example.com/owner": "ada"}},
        "spec": {
            "priorityClassName": "inference",
            "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H200"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "containers": [{"name": "worker", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}],
            "volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "16Gi"}}],
        },
    },
}


def blueprint(restarted_at: str = "", name: str = "w", **spec: Any) -> Blueprint:
    read = msgspec.convert(resource(name, **spec), InferenceWorker)
    return Blueprint(resource=read, images=IMAGES, restarted_at=restarted_at)


def pod(made: Blueprint, ordinal: int = 0) -> JSON:
    return build_pod(made, ordinal, made.pod_hash())


def everything(made: Blueprint) -> list[JSON]:
    """Return all objects of a resource with one pod."""
    claim = build_claim(made.resource, 0)
    return [*([claim] if claim else []), pod(made), *build_services(made.resource), build_budget(made.resource)]


# To the letter

SHOWN = {
    "cpu-with-defaults": blueprint(name="smollm"),
    "cpu-from-a-hub": blueprint(name="smollm", model={"source": "hf://org/smollm"}, cache={"claim": "models"}),
    "cpu-from-a-claim": blueprint(name="smollm", model={"source": "pvc://models/llama/smollm.gguf"}),
    "tensorrt-llm-with-everything": blueprint(name="chat", **GPU),
}


class _Plain(yaml.SafeDumper):
    """No anchors, lists indented as people write them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_made_is_what_stands_in(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    text = yaml.dump_all(everything(SHOWN[name]), Dumper=_Plain, sort_keys=False, width=10_000, allow_unicode=True)
    if os.environ.get("RHAPSODE_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


# The hash

SAME: list[tuple[str, JSON]] = [
    ("replicas", {"replicas": 7}),
    ("suspend", {"suspend": True}),
    ("rollout", {"rollout": {"surge": 1, "waitForIdle": False, "timeoutSeconds": 5}}),
    ("stallSeconds", {"load": {"stallSeconds": 99}}),
    ("what the fetch may take, where nothing is fetched", {"resources": {"model": {"limits": {"memory": "1Gi"}}}}),
    ("protectLoad", {"disruption": {"protectLoad": False}}),
    ("a default that is written down", {"gpuResource": "nvidia.com/gpu"}),
    ("the engine that is the default", {"engine": {"name": "OpenVINO"}}),
    ("an empty template", {"podTemplate": {}}),
    ("limits that are the defaults", {"relay": {"limits": {"idleSeconds": 120}, "cors": {"allowedOrigins": []}}}),
]
OTHER: list[tuple[str, JSON]] = [
    ("model", {"model": {"source": "builtin://smollm2-135m"}}),
    ("servedName", {"model": {"source": "builtin://simulator", "servedName": "x"}}),
    ("engine", {"engine": {"name": "Simulator"}}),
    ("engine option", {"engine": {"options": {"a": 1}}}),
    ("sequences", {"engine": {"maxSequences": 9}}),
    ("relay", {"relay": {"queueLimit": 9}}),
    ("worker's image", {"image": {"worker": "x:2"}}),
    ("relay's image", {"image": {"relay": "x:2"}}),
    ("gpus", {"gpus": 1}),
    ("gpuResource", {"gpus": 1, "gpuResource": "nvidia.com/mig-1g.10gb"}),
    ("memory", {"resources": {"worker": {"limits": {"memory": "1Gi"}}}}),
    ("cache", {"cache": {"size": "1Gi"}}),
    ("auth", {"auth": {"secretRef": {"name": "keys"}}}),
    ("limits of keys", {"auth": {"secretRef": {"name": "keys"}, "limits": {"streams": 2}}}),
    ("origins", {"relay": {"cors": {"allowedOrigins": ["*"]}}}), ("limits", {"relay": {"limits": {"idleSeconds": 121}}}),
    ("contract", {"outcomes": [contract()]}),
    ("contract's schema", {"outcomes": [contract("schema.$defs.place.properties.age", {"type": "integer"})]}),
    ("template's spec", {"podTemplate": {"spec": {"priorityClassName": "high"}}}),
    ("template's label", {"podTemplate": {"metadata": {"labels": {"a": "b"}}}}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "spec"), SAME, ids=[what.replace(" ", "-") for what, _ in SAME])
def test_what_a_pod_does_not_notice_makes_no_new_pods(what: str, spec: JSON) -> None:
    assert blueprint(**spec).pod_hash() == blueprint().pod_hash()


def test_what_a_pod_notices_makes_new_pods_each_change_others() -> None:
    hashes = [blueprint(**spec).pod_hash() for _, spec in OTHER] + [blueprint().pod_hash()]
    hashes += [
        blueprint(restarted_at="2026-11-21T10:00:00Z").pod_hash(),
        blueprint("2026-11-21T11:00:00Z").pod_hash(),
    ]
    assert len(set(hashes)) == len(OTHER) + 3


@given(st.permutations(["b", "a", "c"]))
def test_the_order_in_which_options_are_written_makes_no_new_pods(names: list[str]) -> None:
    options = {name: ord(name) for name in names}
    assert blueprint(engine={"options": options}).pod_hash() == blueprint(engine={"options": {"a": 97, "b": 98, "c": 99}}).pod_hash()  # fmt: skip


@pytest.mark.parametrize("spec", [{}, GPU], ids=["defaults", "everything"])
def test_all_pods_of_a_resource_have_one_hash_and_names_of_their_own(spec: JSON) -> None:
    pods = [pod(blueprint(**spec), ordinal) for ordinal in range(3)]
    assert len({one["metadata"]["annotations"][HASH_ANNOTATION] for one in pods}) == 1
    assert [one["metadata"]["name"] for one in pods] == ["w-0", "w-1", "w-2"]
    assert [one["spec"]["hostname"] for one in pods] == ["w-0", "w-1", "w-2"]


# What a template may not do

HOSTILE = {
    "metadata": {
        "labels": {"rhapsode.dev/worker": "other", "rhapsode.dev/ordinal": "9", "app.kubernetes.io/managed-by": "me"},
        "annotations": {HASH_ANNOTATION: "mine", MANIFEST_ANNOTATION: "{}"},
    }
}


def test_our_labels_and_annotations_win() -> None:
    ours, theirs = pod(blueprint())["metadata"], pod(blueprint(podTemplate=HOSTILE))["metadata"]
    assert theirs["labels"] == ours["labels"]
    assert theirs["annotations"][MANIFEST_ANNOTATION] == ours["annotations"][MANIFEST_ANNOTATION]
    assert theirs["annotations"][HASH_ANNOTATION] == blueprint(podTemplate=HOSTILE).pod_hash()


def test_a_template_may_have_its_own_word_for_autoscalers() -> None:
    safe = {"metadata": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}}}
    assert PROTECT_ANNOTATIONS.items() <= pod(blueprint())["metadata"]["annotations"].items()
    own = pod(blueprint(podTemplate=safe))["metadata"]["annotations"]
    assert {name: own[name] for name in PROTECT_ANNOTATIONS if name in own} == safe["metadata"]["annotations"]
    without = pod(blueprint(disruption={"protectLoad": False}))["metadata"]["annotations"]
    assert PROTECT_ANNOTATIONS.keys().isdisjoint(without)


# What must be so of every pod


@pytest.mark.parametrize("drain_s", [0, 30, 60, 3600])
def test_the_hook_and_the_drain_fit_into_the_grace_period(drain_s: int) -> None:
    made = pod(blueprint(relay={"drainSeconds": drain_s}))["spec"]
    assert PRESTOP_S + drain_s + 10 <= made["terminationGracePeriodSeconds"] <= PRESTOP_S + drain_s + 60
    assert made["containers"][0]["lifecycle"]["preStop"]["httpGet"]["path"] == "/prestop"


def test_only_the_worker_holds_gpus() -> None:
    made = pod(blueprint(gpus=2, gpuResource="nvidia.com/mig-1g.10gb"))["spec"]
    assert made["containers"][0]["resources"]["limits"] == {"nvidia.com/mig-1g.10gb": 2}
    assert not any("nvidia" in name for name in made["initContainers"][0]["resources"]["limits"])


@pytest.mark.parametrize(
    ("spec", "image"),
    [
        ({}, IMAGES.worker_cpu),
        ({"engine": {"name": "Simulator"}, "gpus": 1}, IMAGES.worker_cpu),
        ({"gpus": 1}, IMAGES.worker_tensorrt_llm),
        ({"engine": {"name": "TensorRTLLM"}}, IMAGES.worker_tensorrt_llm),
        ({"gpus": 1, "image": {"worker": "mine:3"}}, "mine:3"),
    ],
)
def test_the_image_is_that_of_the_engine_unless_one_is_named(spec: JSON, image: str) -> None:
    assert pod(blueprint(**spec))["spec"]["containers"][0]["image"] == image


@pytest.mark.parametrize(("named", "image"), [({}, IMAGES.worker_cpu), ({"image": {"worker": "mine:3"}}, "mine:3")])
def test_a_model_is_fetched_before_a_large_image_is_there(named: JSON, image: str) -> None:
    """NVIDIA's image is over 20 GB, and has another version of the hub's client."""
    made = pod(blueprint(engine={"name": "TensorRTLLM"}, model={"source": "hf://org/m"}, **named))["spec"]
    assert {one["name"]: one["image"] for one in made["initContainers"]}["model"] == image


def test_a_worker_is_told_how_many_gpus_it_has() -> None:
    annotation = pod(blueprint(gpus=4))["metadata"]["annotations"]["rhapsode.dev/manifest"]
    assert msgspec.json.decode(annotation)["spec"]["gpus"] == 4


def test_each_pod_has_its_own_claim_or_all_share_one() -> None:
    own, shared = blueprint(cache={"size": "1Gi"}), blueprint(cache={"claim": "models"})
    claims = [build_claim(own.resource, ordinal) for ordinal in (0, 1)]
    assert [claim["metadata"]["name"] for claim in claims if claim] == ["w-0-cache", "w-1-cache"]
    assert claim_in(pod(own, 1)) == "w-1-cache"
    assert build_claim(shared.resource, 0) is None
    assert {claim_in(pod(shared, ordinal)) for ordinal in (0, 1)} == {"models"}


def claim_in(made: JSON) -> str:
    return next(
        str(one["persistentVolumeClaim"]["claimName"]) for one in made["spec"]["volumes"] if one["name"] == "cache"
    )


def test_services_budget_and_status_select_the_same_pods() -> None:
    made = blueprint()
    chosen = {"rhapsode.dev/worker": "w"}
    assert selector("w") == "rhapsode.dev/worker=w"
    assert [one["spec"]["selector"] for one in build_services(made.resource)] == [chosen, chosen]
    assert build_budget(made.resource)["spec"]["selector"]["matchLabels"] == chosen
    assert chosen.items() <= pod(made)["metadata"]["labels"].items()
    assert pod(made)["spec"]["subdomain"] == build_services(made.resource)[1]["metadata"]["name"]


# Where the model comes from


def test_the_hubs_token_is_the_fetchers_alone_and_stands_nowhere() -> None:
    ref = {"name": "hub", "key": "read"}
    made = pod(blueprint(model={"source": "hf://org/model", "tokenSecretRef": ref}))
    relay, model = made["spec"]["initContainers"]
    tokens = {
        one["name"]: one["valueFrom"]["secretKeyRef"]
        for one in model["env"]
        if "secretKeyRef" in one.get("valueFrom", {})
    }
    assert tokens == {"HF_TOKEN": ref}
    assert "HF_TOKEN" not in str([relay, made["spec"]["containers"]])
    assert "tokenSecretRef" not in made["metadata"]["annotations"][MANIFEST_ANNOTATION]
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in made["spec"]["containers"][0]["env"]


@pytest.mark.parametrize("source", ["builtin://smollm2-135m", "file:///models/m.gguf", "pvc://models/m.gguf"])
def test_only_a_hubs_model_is_fetched_before_the_worker_starts(source: str) -> None:
    assert [one["name"] for one in pod(blueprint(model={"source": source}))["spec"]["initContainers"]] == ["relay"]


def test_an_engine_without_a_model_gets_none() -> None:
    for source in ("hf://org/model", "pvc://models/m.gguf"):
        made = pod(blueprint(model={"source": source}, engine={"name": "Simulator"}))["spec"]
        assert len(made["initContainers"]) == 1
        assert "model" not in [one["name"] for one in made["volumes"]]


def test_a_mirror_is_named_in_the_template() -> None:
    mirror = {"name": "HF_ENDPOINT", "value": "https://hub.example"}
    template = {"spec": {"initContainers": [{"name": "model", "env": [mirror]}]}}
    made = pod(blueprint(model={"source": "hf://org/model"}, podTemplate=template))["spec"]
    assert [one["name"] for one in made["initContainers"]] == ["relay", "model"]
    assert mirror in made["initContainers"][1]["env"]

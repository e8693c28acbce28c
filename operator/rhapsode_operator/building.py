"""What an InferenceWorker becomes: pods, Services, a disruption budget, claims. Pure; pinned by golden files.

The manifest that relay and worker read travels in an annotation of the pod, as a file of the downward API: a pod and
what it serves are one object, so no crash can part them and a restarted container reads what its pod was made for
(ADR 8).
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec

from rhapsode_contract import names
from rhapsode_contract.access import KeyLimits
from rhapsode_contract.resources import InferenceWorker, RelaySpec
from rhapsode_operator import containers
from rhapsode_operator.merging import merged
from rhapsode_operator.observing import (
    HASH_ANNOTATION,
    MANIFEST_ANNOTATION,
    ORDINAL_LABEL,
    POD_LABEL,
    PROTECT_ANNOTATIONS,
)

Body = dict[str, Any]

PRESTOP_S = 50
"""How long the drain before SIGTERM may take: the kubelet gives up on a hook's HTTP call after 60 s."""
GRACE_BEYOND_DRAIN_S = PRESTOP_S + 20
"""The hook, then SIGTERM with its own drain, then the engine's end and the relay's."""
USER = 65532


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images of resources that name none."""

    relay: str
    worker_cpu: str
    worker_tensorrt_llm: str


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """One resource, ready to be built from."""

    resource: InferenceWorker
    images: Images
    restarted_at: str = ""

    @property
    def name(self) -> str:
        return self.resource.metadata.name

    def pod_hash(self) -> str:
        """Return what changes when pods must be made anew. Protection is given and taken while a pod lives."""
        template = _pod(self, 0) | {"restartedAt": self.restarted_at}
        text = msgspec.json.encode(template, order="sorted")
        return hashlib.sha256(text).hexdigest()[:10]

    @property
    def has_own_protection(self) -> bool:
        """Whether the template says itself what autoscalers may do: then we say nothing."""
        template = self.resource.spec.pod_template
        return template is not None and not PROTECT_ANNOTATIONS.keys().isdisjoint(template.metadata.annotations)

    def pod_name(self, ordinal: int) -> str:
        return f"{self.name}-{ordinal}"


def selector(name: str) -> str:
    """Return the label selector of a resource's pods."""
    return f"{POD_LABEL}={name}"


def build_pod(blueprint: Blueprint, ordinal: int, pod_hash: str) -> Body:
    """Return the pod with this ordinal."""
    pod = _pod(blueprint, ordinal)
    annotations = pod["metadata"]["annotations"]
    if blueprint.resource.spec.disruption.protect_load and not blueprint.has_own_protection:
        annotations |= PROTECT_ANNOTATIONS
    annotations[HASH_ANNOTATION] = pod_hash
    return pod


def _pod(blueprint: Blueprint, ordinal: int) -> Body:
    resource, spec = blueprint.resource, blueprint.resource.spec
    body: Body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(resource, blueprint.pod_name(ordinal)),
        "spec": {
            "hostname": blueprint.pod_name(ordinal),
            "subdomain": containers.pods_service(resource),
            "restartPolicy": "Always",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": spec.relay.drain_seconds + GRACE_BEYOND_DRAIN_S,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": _before_worker(blueprint),
            "containers": [containers.worker(resource, _worker_image(blueprint))],
            "volumes": containers.volumes(resource, ordinal),
        },
    }
    labels = body["metadata"]["labels"]
    labels[ORDINAL_LABEL] = str(ordinal)
    body["metadata"]["annotations"] = {MANIFEST_ANNOTATION: _served(resource)}
    return _overridden(body, resource)


def _before_worker(blueprint: Blueprint) -> list[Body]:
    """Return the sidecar, and what fetches the model with it as listener."""
    relay = containers.relay(blueprint.resource, _relay_image(blueprint))
    model = containers.model(blueprint.resource, _fetcher_image(blueprint))
    return [relay, model] if model else [relay]


def _served(resource: InferenceWorker) -> str:
    """Return the manifest that relay and worker read: only what they use, so that nothing else makes new pods."""
    spec = msgspec.to_builtins(resource.spec)
    kept: Body = {
        "engine": {**spec["engine"], "name": resource.spec.engine_name},
        "model": {name: value for name, value in spec["model"].items() if name != "tokenSecretRef"},
        "relay": _said(spec["relay"], RelaySpec()),
    }
    if resource.spec.auth is not None and resource.spec.auth.limits != KeyLimits():
        kept["auth"] = spec["auth"]
    if resource.spec.outcomes:
        kept["outcomes"] = spec["outcomes"]
    if resource.spec.gpu_count:
        kept["gpus"] = resource.spec.gpu_count
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": resource.metadata.name},
        "spec": kept,
    }
    return msgspec.json.encode(manifest, order="sorted").decode()


def _said(relay: Body, unsaid: RelaySpec) -> Body:
    """Leave out the newer fields where nobody set them: a manifest that says the same must stay the same."""
    return {
        name: value
        for name, value in relay.items()
        if name not in ("cors", "limits") or value != msgspec.to_builtins(getattr(unsaid, name))
    }


def _overridden(body: Body, resource: InferenceWorker) -> Body:
    template = resource.spec.pod_template
    if template is None:
        return body
    ours = body["metadata"]
    metadata = merged(
        ours, {"labels": dict(template.metadata.labels), "annotations": dict(template.metadata.annotations)}
    )
    metadata["labels"] |= ours["labels"]
    metadata["annotations"] |= ours["annotations"]
    return body | {"metadata": metadata, "spec": merged(body["spec"], template.spec)}


def _relay_image(blueprint: Blueprint) -> str:
    return blueprint.resource.spec.image.relay or blueprint.images.relay


def _worker_image(blueprint: Blueprint) -> str:
    spec, images = blueprint.resource.spec, blueprint.images
    ours = images.worker_tensorrt_llm if spec.engine_name == "TensorRTLLM" else images.worker_cpu
    return spec.image.worker or ours


def _fetcher_image(blueprint: Blueprint) -> str:
    """Return the small worker image for any engine: it has the hub's client, and is there before a large one."""
    return blueprint.resource.spec.image.worker or blueprint.images.worker_cpu


def build_services(resource: InferenceWorker) -> tuple[Body, Body]:
    """Return the relay Service, and the headless one that gives every pod a name.

    Both publish pods that are not ready: a client of a cold start is held and told, not refused.
    """
    name, port = resource.metadata.name, {"name": "http", "port": names.DEFAULT_PORT, "targetPort": "http"}
    relay = {"selector": {POD_LABEL: name}, "publishNotReadyAddresses": True, "ports": [port]}
    pods = relay | {"clusterIP": "None"}
    headless = containers.pods_service(resource)
    return (
        {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(resource, name), "spec": relay},
        {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(resource, headless), "spec": pods},
    )


def build_budget(resource: InferenceWorker) -> Body:
    """Return the disruption budget: one pod at a time may go. A single pod may always be drained away."""
    name = resource.metadata.name
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(resource, name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {POD_LABEL: name}},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def build_claim(resource: InferenceWorker, ordinal: int) -> Body | None:
    """Return the claim of a pod's cache, if one is to be made."""
    cache = resource.spec.cache
    if cache is None or cache.size is None:
        return None
    spec: Body = {"accessModes": [cache.access_mode], "resources": {"requests": {"storage": cache.size}}}
    if cache.storage_class:
        spec["storageClassName"] = cache.storage_class
    name = containers.claim_name(resource, ordinal)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(resource, name),
        "spec": spec,
    }


def _metadata(resource: InferenceWorker, name: str) -> Body:
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": resource.metadata.name,
        "uid": resource.metadata.uid,
        "controller": True,
    }
    return {
        "name": name,
        "namespace": resource.metadata.namespace,
        "labels": {
            "app.kubernetes.io/name": "rhapsode",
            "app.kubernetes.io/instance": resource.metadata.name,
            "app.kubernetes.io/managed-by": "rhapsode-operator",
            POD_LABEL: resource.metadata.name,
        },
        "ownerReferences": [owner],
    }

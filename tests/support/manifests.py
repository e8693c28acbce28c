"""Manifests that are wrong in one place each, and what is said about them."""

import copy
from typing import Any

GOOD: dict[str, Any] = {
    "apiVersion": "rhapsode.dev/v1alpha1",
    "kind": "InferenceWorker",
    "metadata": {"name": "smollm"},
    "spec": {
        "model": {"source": "builtin://smollm2-135m"},
        "engine": {"name": "OpenVINO"},
        "relay": {},
    },
}
FORMS = "builtin://NAME, hf://ORG/REPO[@REV], pvc://CLAIM/PATH or file:///PATH"
EITHER = "expected either claim, an existing volume, or size, a new one for each pod"
NAME_RULE = "lower-case letters, digits and '-', at most 52, beginning with a letter, not ending with '-'"

BAD: list[tuple[str, Any, str]] = [
    ("apiVersion", "v1", 'apiVersion: expected rhapsode.dev/v1alpha1, got "v1"'),
    ("apiVersion", ..., "apiVersion: required"),
    ("kind", "Pod", 'kind: expected InferenceWorker, got "Pod"'),
    ("metadata", ..., "metadata: required"),
    ("metadata.name", ..., "metadata.name: required"),
    ("metadata.name", "Smol", f'metadata.name: expected {NAME_RULE}, got "Smol"'),
    ("metadata.name", "-a", f'metadata.name: expected {NAME_RULE}, got "-a"'),
    ("metadata.name", "7b-chat", f'metadata.name: expected {NAME_RULE}, got "7b-chat"'),
    ("metadata.name", "a\n", f'metadata.name: expected {NAME_RULE}, got "a\\n"'),
    ("metadata.name", "a" * 53, f'metadata.name: expected {NAME_RULE}, got "{"a" * 53}"'),
    ("metadata.name", 5, "metadata.name: must be of type string, got 5"),
    ("metadata.labels", {"a": 1}, "metadata.labels.a: must be of type string, got 1"),
    ("specs", {}, "specs: unknown field; did you mean spec?"),
    ("spec", [], "spec: must be of type object, got []"),
    ("spec", ..., "spec: required"),
    ("spec.model", ..., "spec.model: required"),
    ("spec.model.source", ..., "spec.model.source: required"),
    ("spec.model.source", "http://x/y", f'spec.model.source: expected {FORMS}, got "http://x/y"'),
    ("spec.model.source", "builtin://", f'spec.model.source: expected {FORMS}, got "builtin://"'),
    ("spec.model.source", "hf://onlyorg", f'spec.model.source: expected {FORMS}, got "hf://onlyorg"'),
    ("spec.model.source", "file://relative", f'spec.model.source: expected {FORMS}, got "file://relative"'),
    ("spec.model.source", "pvc://claim", f'spec.model.source: expected {FORMS}, got "pvc://claim"'),
    ("spec.model.source", "file:///a/../etc", f"spec.model.source: expected {FORMS}, without '..'"),
    ("spec.model.source", None, "spec.model.source: required"),
    (
        "spec.model.servedName",
        "a b",
        "spec.model.servedName: expected letters, digits, '.', '_' and '-', at most 128",
    ),
    ("spec.model.sauce", "x", "spec.model.sauce: unknown field; did you mean source?"),
    ("spec.engine.name", "vLLM", 'spec.engine.name: expected one of OpenVINO, Simulator, TensorRTLLM, got "vLLM"'),
    ("spec.engine.name", 1, "spec.engine.name: must be of type string, got 1"),
    ("spec.engine.maxSequences", 0, "spec.engine.maxSequences: expected 1..1024, got 0"),
    ("spec.engine.maxSequences", 1025, "spec.engine.maxSequences: expected 1..1024, got 1025"),
    ("spec.engine.maxSequences", "8", 'spec.engine.maxSequences: must be of type integer, got "8"'),
    ("spec.engine.maxSequences", True, "spec.engine.maxSequences: must be of type integer, got true"),
    ("spec.engine.maxSequences", 1.5, "spec.engine.maxSequences: must be of type integer, got 1.5"),
    ("spec.engine.maxContextTokens", 15, "spec.engine.maxContextTokens: expected 16..1048576, got 15"),
    ("spec.engine.options", [], "spec.engine.options: must be of type object, got []"),
    ("spec.engine.options", {1: 2}, "spec.engine.options: expected names that are strings, got 1"),
    ("spec.engine.option", {}, "spec.engine.option: unknown field; did you mean options?"),
    ("spec.relay.narration", "loud", 'spec.relay.narration: expected one of cute, human, story, got "loud"'),
    ("spec.relay.heartbeatSeconds", 0, "spec.relay.heartbeatSeconds: expected 1..60, got 0"),
    ("spec.relay.heartbeatSeconds", 61, "spec.relay.heartbeatSeconds: expected 1..60, got 61"),
    ("spec.relay.queueLimit", -1, "spec.relay.queueLimit: expected 0..10000, got -1"),
    (
        "spec.relay.onDisconnect",
        "abort",
        'spec.relay.onDisconnect: expected one of cancel, continue, grace, got "abort"',
    ),
    ("spec.relay.graceSeconds", 3601, "spec.relay.graceSeconds: expected 0..3600, got 3601"),
    ("spec.relay.drain_seconds", 5, "spec.relay.drain_seconds: unknown field; did you mean drainSeconds?"),
    ("spec.xyz", 1, "spec.xyz: unknown field; known are model, engine, relay, outcomes, "),
    ("spec.replicas", -1, "spec.replicas: expected 0..256, got -1"),
    ("spec.replicas", 257, "spec.replicas: expected 0..256, got 257"),
    ("spec.replicas", "two", 'spec.replicas: must be of type integer, got "two"'),
    ("spec.gpus", 65, "spec.gpus: expected 0..64, got 65"),
    ("spec.gpuResource", "gpu", 'spec.gpuResource: expected a resource name like nvidia.com/gpu, got "gpu"'),
    ("spec.suspend", "yes", 'spec.suspend: must be of type boolean, got "yes"'),
    ("spec.image.worker", "a b", 'spec.image.worker: expected an image reference without spaces, got "a b"'),
    ("spec.image", "x", 'spec.image: must be of type object, got "x"'),
    ("spec.resources.worker.limits", [], "spec.resources.worker.limits: must be of type object, got []"),
    (
        "spec.resources.worker.limits.cpu",
        [],
        "spec.resources.worker.limits.cpu: must be of type integer,string, got []",
    ),
    (
        "spec.resources.worker.limits.cpu",
        "lots",
        'spec.resources.worker.limits.cpu: expected a quantity such as 500m or 16Gi, got "lots"',
    ),
    ("spec.model.tokenSecretRef", {}, "spec.model.tokenSecretRef.name: required"),
    ("spec.model.tokenSecretRef", {"name": "No"}, "spec.model.tokenSecretRef.name: expected a Kubernetes name"),
    (
        "spec.model.tokenSecretRef",
        {"name": "hub", "key": "a/b"},
        "spec.model.tokenSecretRef.key: expected letters, digits, '-', '_' and '.', got \"a/b\"",
    ),
    ("spec.resources.engine", {}, "spec.resources.engine: unknown field"),
    ("spec.cache", {}, f"spec.cache: {EITHER}"),
    ("spec.cache", {"claim": "a", "size": "1Gi"}, f"spec.cache: {EITHER}"),
    ("spec.cache", {"size": "big"}, 'spec.cache.size: expected a quantity such as 50Gi, got "big"'),
    ("spec.cache", {"claim": "a", "storageClass": "b"}, "spec.cache: storageClass belongs to size"),
    (
        "spec.cache",
        {"size": "1Gi", "accessMode": "Often"},
        "spec.cache.accessMode: expected one of ReadWriteMany, ReadWriteOnce, ",
    ),
    ("spec.rollout.timeoutSeconds", -1, "spec.rollout.timeoutSeconds: expected 0..86400, got -1"),
    ("spec.rollout.surge", 9, "spec.rollout.surge: expected 0..8, got 9"),
    ("spec.rollout.waitForIdle", 1, "spec.rollout.waitForIdle: must be of type boolean, got 1"),
    ("spec.load.stallSeconds", 9, "spec.load.stallSeconds: expected 10..86400, got 9"),
    ("spec.disruption.protectLoads", True, "spec.disruption.protectLoads: unknown field; did you mean protectLoad?"),
    ("spec.auth", {}, "spec.auth.secretRef: required"),
    ("spec.auth", {"secretRef": {"name": "No"}}, "spec.auth.secretRef.name: expected a Kubernetes name"),
    (
        "spec.auth",
        {"secretRef": {"name": "a"}, "limits": {"streams": 0}},
        "spec.auth.limits.streams: expected 1..65536, got 0",
    ),
    (
        "spec.auth",
        {"secretRef": {"name": "a"}, "limits": {"requests": 1}},
        "spec.auth.limits.requests: unknown field",
    ),
    ("spec.relay.limits", {"idleSeconds": 0}, "spec.relay.limits.idleSeconds: expected 1..86400, got 0"),
    ("spec.relay.limits", {"connections": 1}, "spec.relay.limits.connections: expected 16..65536, got 1"),
    (
        "spec.relay.cors.allowedOrigins",
        ["https://a.example/"],
        "spec.relay.cors.allowedOrigins[0]: expected '*' or an origin as a browser sends it",
    ),
    ("spec.relay.cors.allowedOrigins", ["*", "https://a"], "spec.relay.cors.allowedOrigins: '*' allows every origin"),
    ("spec.podTemplate.spec", "x", 'spec.podTemplate.spec: must be of type object, got "x"'),
    (
        "spec.podTemplate.metadata.labels",
        {"a": 1},
        "spec.podTemplate.metadata.labels.a: must be of type string, got 1",
    ),
    ("spec.gpus+engine", 0, "spec: engine TensorRTLLM needs gpus of at least 1"),
]


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good manifest with a value at a path, or without it; `+engine` makes it one for GPUs."""
    manifest = copy.deepcopy(GOOD)
    path, _, wants_gpu = path.partition("+")
    if wants_gpu:
        manifest["spec"]["engine"]["name"] = "TensorRTLLM"
    *parents, last = path.split(".")
    place = manifest
    for parent in parents:
        place = place.setdefault(parent, {})
    if value is ...:
        place.pop(last, None)
    else:
        place[last] = value
    return manifest

"""The containers of a pod, and its volumes. Pure; called by `building`.

The relay is a native sidecar: it is up before the worker's image is pulled, and ends after the worker. Only the
worker asks for GPUs, so only it can see them. A model of a hub is fetched by an init container between the two, which
alone has the hub's token.
"""

from typing import Any

import msgspec

from rhapsode_contract import names
from rhapsode_contract.outcomes import ContextSource, Sink
from rhapsode_contract.placement import ResourceNeeds
from rhapsode_contract.resources import InferenceWorker
from rhapsode_contract.sources import ModelSource, parse_source
from rhapsode_operator.observing import MANIFEST_ANNOTATION, MODEL, RELAY, WORKER

Body = dict[str, Any]

MANIFEST_FOLDER = "/etc/rhapsode"
KEYS_FOLDER = "/etc/rhapsode-keys"
SECRETS_FOLDER = "/var/lib/rhapsode/secrets"
"""Secrets of sinks and context sources: a folder for each, with the keys that contracts name."""
CACHE_FOLDER = "/var/cache/rhapsode"
MODEL_FOLDER = "/var/lib/rhapsode/model"
SOCKET_FOLDER = str(names.POD_SOCKET.parent)
LOAD_PROBE_S, LOAD_PROBES = 2, 43_200
"""A load may take a day before the kubelet gives up; the operator speaks up long before (`load.stallSeconds`)."""


def relay(resource: InferenceWorker, image: str) -> Body:
    """Return the sidecar."""
    env = [
        _value(names.ENV_HOST, "0.0.0.0"),  # noqa: S104 (inside a pod)
        _value(names.ENV_PEERS, pods_service(resource)),
        _value("NVIDIA_VISIBLE_DEVICES", "void"),
    ]
    mounts = [_mount("manifest", MANIFEST_FOLDER), _mount("socket", SOCKET_FOLDER), _mount("tmp", "/tmp")]  # noqa: S108
    if resource.spec.auth is not None:
        env.append(_value(names.ENV_KEYS, KEYS_FOLDER))
        mounts.append(_mount("keys", KEYS_FOLDER))
    if secrets := _secrets(resource):
        env.append(_value(names.ENV_SECRETS, SECRETS_FOLDER))
        mounts += [
            _mount(f"secret-{at}", f"{SECRETS_FOLDER}/{name}") | {"readOnly": True} for at, name in enumerate(secrets)
        ]
    return {
        **_common(RELAY, image, "rhapsode_relay", env, mounts),
        "restartPolicy": "Always",
        "ports": [
            {"name": "http", "containerPort": names.DEFAULT_PORT},
            {"name": "admin", "containerPort": names.DEFAULT_ADMIN_PORT},
        ],
        "resources": _resources(resource.spec.resources.relay),
        "startupProbe": _probe("/healthz", 1, 60),
        "readinessProbe": _probe("/readyz", 2, 1),
        "livenessProbe": _probe("/healthz", 10, 3),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def model(resource: InferenceWorker, image: str) -> Body | None:
    """Return the init container that fetches the model, if there is anything to fetch."""
    spec = resource.spec
    if not _is_fetched(resource):
        return None
    env = [
        *_with_cache(),
        _value("NVIDIA_VISIBLE_DEVICES", "void"),
        _value("HF_HUB_DISABLE_TELEMETRY", "1"),
    ]
    if (token := spec.model.token_secret_ref) is not None:
        env.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": token.name, "key": token.key}}})
    mounts = [
        _mount("manifest", MANIFEST_FOLDER),
        _mount("socket", SOCKET_FOLDER),
        _mount("tmp", "/tmp"),  # noqa: S108
        _mount("cache", CACHE_FOLDER),
    ]
    return {
        **_common(MODEL, image, "rhapsode_worker.prefetching", env, mounts),
        "resources": _resources(spec.resources.model),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def worker(resource: InferenceWorker, image: str) -> Body:
    """Return the worker. It counts as started when its model is loaded."""
    spec = resource.spec
    env = _with_cache()
    mounts = [
        _mount("manifest", MANIFEST_FOLDER),
        _mount("socket", SOCKET_FOLDER),
        _mount("tmp", "/tmp"),  # noqa: S108
        _mount("shm", "/dev/shm"),  # noqa: S108
        _mount("cache", CACHE_FOLDER),
    ]
    if _is_fetched(resource):
        env.append(_value("HF_HUB_OFFLINE", "1"))  # it is all here, and the token is not
    if _claim_of_model(resource):
        env.append(_value(names.ENV_MODEL_FOLDER, MODEL_FOLDER))
        mounts.append(_mount("model", MODEL_FOLDER) | {"readOnly": True})
    gpus = {spec.gpu_resource: spec.gpu_count} if spec.gpu_count else {}
    return {
        **_common(WORKER, image, "rhapsode_worker", env, mounts),
        "resources": _resources(spec.resources.worker, gpus),
        "startupProbe": _probe("/healthz/worker", LOAD_PROBE_S, LOAD_PROBES),
        "livenessProbe": _probe("/healthz/worker", 10, 3),
        "lifecycle": {"preStop": {"httpGet": {"path": "/prestop", "port": names.DEFAULT_ADMIN_PORT}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def volumes(resource: InferenceWorker, ordinal: int) -> list[Body]:
    """Return the pod's volumes."""
    path = f"metadata.annotations['{MANIFEST_ANNOTATION}']"
    items = [{"path": "manifest.json", "fieldRef": {"fieldPath": path}}]
    found: list[Body] = [
        {"name": "manifest", "downwardAPI": {"items": items}},
        {"name": "socket", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        _cache_volume(resource, ordinal),
    ]
    if claim := _claim_of_model(resource):
        found.append({"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    if resource.spec.auth is not None:
        found.append({"name": "keys", "secret": {"secretName": resource.spec.auth.secret_ref.name}})
    for at, (name, keys) in enumerate(_secrets(resource).items()):
        files = [{"key": key, "path": key} for key in keys]
        found.append({"name": f"secret-{at}", "secret": {"secretName": name, "items": files}})
    return found


def pods_service(resource: InferenceWorker) -> str:
    """Return the name of the headless Service, which gives every pod a name."""
    return f"{resource.metadata.name}-pods"


def claim_name(resource: InferenceWorker, ordinal: int) -> str:
    """Return the name of the claim that is made for a pod's cache."""
    return f"{resource.metadata.name}-{ordinal}-cache"


def _source(resource: InferenceWorker) -> ModelSource | None:
    """Return where the model comes from; None for an engine that has none."""
    spec = resource.spec
    return None if spec.engine_name == "Simulator" else parse_source(spec.model.source)


def _is_fetched(resource: InferenceWorker) -> bool:
    source = _source(resource)
    return source is not None and source.scheme == "hf"


def _claim_of_model(resource: InferenceWorker) -> str:
    source = _source(resource)
    return source.place if source is not None and source.scheme == "pvc" else ""


def _secrets(resource: InferenceWorker) -> dict[str, list[str]]:
    """Return the Secrets that contracts name, and which keys of each; sorted, so that nothing makes new pods."""
    calls: list[ContextSource | Sink] = []
    for outcome in resource.spec.outcomes:
        calls += [*outcome.context, *outcome.sinks]
    named = {(at.secret_ref.name, at.secret_ref.key) for call in calls if (at := call.secret_header) is not None}
    return {
        name: sorted(key for other, key in named if other == name) for name in sorted({name for name, _ in named})
    }


def _with_cache() -> list[Body]:
    return [
        _value(names.ENV_CACHE, CACHE_FOLDER),
        _value(names.ENV_TERMINATION_LOG, "/dev/termination-log"),
        _value("HOME", "/tmp"),  # noqa: S108 (the only place that a read-only root leaves)
    ]


def _cache_volume(resource: InferenceWorker, ordinal: int) -> Body:
    cache = resource.spec.cache
    if cache is None:
        return {"name": "cache", "emptyDir": {}}
    claim = cache.claim or claim_name(resource, ordinal)
    return {"name": "cache", "persistentVolumeClaim": {"claimName": claim}}


def _common(name: str, image: str, module: str, env: list[Body], mounts: list[Body]) -> Body:
    shared = [
        _value(names.ENV_MANIFEST, f"{MANIFEST_FOLDER}/manifest.json"),
        _value(names.ENV_SOCKET, str(names.POD_SOCKET)),
        {"name": names.ENV_WORKER_ID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", module],
        "env": [*shared, *env],
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _probe(path: str, period_s: int, failures: int) -> Body:
    target = {"path": path, "port": names.DEFAULT_ADMIN_PORT}
    return {"httpGet": target, "periodSeconds": period_s, "timeoutSeconds": 2, "failureThreshold": failures}


def _resources(needs: ResourceNeeds, gpus: dict[str, int] | None = None) -> Body:
    built = msgspec.to_builtins(needs)
    if gpus:
        built["limits"] = built["limits"] | gpus
    return {name: part for name, part in built.items() if part}


def _value(name: str, value: str) -> Body:
    return {"name": name, "value": value}


def _mount(name: str, path: str) -> Body:
    return {"name": name, "mountPath": path}

"""Kubernetes' strategic merge, as far as a pod needs it. Pure; called by `building`.

Maps are merged, lists that have a merge key item by item, other lists are replaced; null takes a field away, and so
does `$patch: delete` in an item. Merge keys as in Kubernetes' API types (core/v1, `patchMergeKey`).
"""

from typing import Any

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
}


def merged(base: Any, patch: Any, field: str = "") -> Any:
    """Return `base` with `patch` merged over it; neither is changed."""
    if isinstance(patch, dict):
        return _merged_maps(base if isinstance(base, dict) else {}, patch)
    key = MERGE_KEYS.get(field)
    if key and isinstance(patch, list):
        return _merged_lists(base if isinstance(base, list) else [], patch, key)
    return patch


def _merged_maps(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value, name)
    return result


def _merged_lists(base: list[Any], patch: list[Any], key: str) -> list[Any]:
    result = {_key_of(item, key): item for item in base}
    for item in patch:
        name = _key_of(item, key)
        if isinstance(item, dict) and item.get("$patch") == "delete":
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), item)
    return list(result.values())


def _key_of(item: Any, key: str) -> Any:
    """Return what an item is known by; one without a proper key is itself only, and for the API server to judge."""
    name = item.get(key) if isinstance(item, dict) else None
    return name if isinstance(name, str | int) else ("unnamed", id(item))

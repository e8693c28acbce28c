"""A pod's files, addresses and environment on this machine, instead of a container's. Used by `pod_containers`.

Mount paths do not exist here: wherever a value of the environment or an argument begins with one, it gets the folder
that stands for it.
"""

import base64
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

JSON = dict[str, Any]
Objects = Mapping[tuple[str, str], JSON | None]
"""ConfigMaps and Secrets by plural and name; None where there is none."""
EVERYWHERE = ("0.0.0.0", "::")
_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_KEYED = re.compile(r"metadata\.(annotations|labels)\['(.+)'\]")
_DATA = {"configMap": "configmaps", "secret": "secrets", "configMapKeyRef": "configmaps", "secretKeyRef": "secrets"}


IDLE = ["python", "-c", "import signal; signal.pause()"]
"""Stands for an image's own program, which is not here."""


class Missing(Exception):
    """A ConfigMap, a Secret or a key of it is not there."""


class Room:
    """What one pod has on this machine."""

    def __init__(self, folder: Path, claims: Path, pod: JSON, ip: str) -> None:
        self.folder, self.pod, self.ip = folder, pod, ip
        self._claims = claims
        folder.mkdir(parents=True)

    def needs(self) -> set[tuple[str, str]]:
        """Return the ConfigMaps and Secrets that the pod names."""
        found = set()
        for volume in self.pod["spec"].get("volumes") or []:
            for kind in ("configMap", "secret"):
                if kind in volume:
                    found.add((_DATA[kind], volume[kind].get("name") or volume[kind]["secretName"]))
        for container in [*(self.pod["spec"].get("initContainers") or []), *self.pod["spec"]["containers"]]:
            for variable in container.get("env") or []:
                for kind, reference in (variable.get("valueFrom") or {}).items():
                    if kind in _DATA:
                        found.add((_DATA[kind], reference["name"]))
        return found

    def fill(self, objects: Objects) -> None:
        """Write what the volumes hold; again when the pod's annotations or labels changed."""
        for volume in self.pod["spec"].get("volumes") or []:
            folder = self._folder(volume)
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in self._files(volume, objects).items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                fresh = path.with_name(f".{path.name}.new")
                fresh.write_bytes(text)
                fresh.replace(path)

    def environ(self, container: JSON, objects: Objects, base: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a container."""
        found = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8", **base}
        for variable in container.get("env") or []:
            value = self._value(variable, objects)
            if value is not None:
                found[variable["name"]] = self.here(_expand(value, found), container)
        return found

    def command(self, container: JSON, environ: Mapping[str, str]) -> list[str]:
        """Return what runs here: python is the one that runs the tests."""
        words = [*(container.get("command") or []), *(container.get("args") or [])]
        words = [self.here(_expand(word, environ), container) for word in words] or IDLE
        return [sys.executable if words[0] in ("python", "python3") else words[0], *words[1:]]

    def here(self, value: str, container: JSON) -> str:
        """Return a path or address of the pod as one of this machine."""
        if value in EVERYWHERE:
            return self.ip
        places = {
            mount["mountPath"].rstrip("/"): self._mounted(mount) for mount in container.get("volumeMounts") or []
        }
        places[container.get("terminationMessagePath") or "/dev/termination-log"] = self.last_words(container)
        for path in sorted(places, key=len, reverse=True):
            if value == path or value.startswith(path + "/"):
                return str(places[path]) + value[len(path) :]
        return value

    def log(self, container: str) -> Path:
        return self.folder / f"{container}.log"

    def last_words(self, container: JSON) -> Path:
        """Return the file in which a container leaves its termination message."""
        return self.folder / f"{container['name']}.end"

    def _mounted(self, mount: JSON) -> Path:
        volume = next(one for one in self.pod["spec"]["volumes"] if one["name"] == mount["name"])
        folder = self._folder(volume) / (mount.get("subPath") or "")
        if not folder.exists():
            folder.mkdir(parents=True)
        return folder

    def _folder(self, volume: JSON) -> Path:
        if claim := volume.get("persistentVolumeClaim"):
            return self._claims / f"{self.pod['metadata']['namespace']}.{claim['claimName']}"
        return self.folder / str(volume["name"])

    def _files(self, volume: JSON, objects: Objects) -> dict[str, bytes]:
        if source := volume.get("downwardAPI"):
            return {one["path"]: self._field(one["fieldRef"]).encode() for one in source.get("items") or []}
        for kind in ("configMap", "secret"):
            if source := volume.get(kind):
                name = source.get("name") or source["secretName"]
                data = _data(_DATA[kind], name, objects, optional=bool(source.get("optional")))
                picked = {one["key"]: one["path"] for one in source.get("items") or []} or {key: key for key in data}
                return {path: data[key] for key, path in picked.items() if key in data}
        return {}

    def _value(self, variable: JSON, objects: Objects) -> str | None:
        source = variable.get("valueFrom") or {}
        if "fieldRef" in source:
            return self._field(source["fieldRef"])
        for kind in ("configMapKeyRef", "secretKeyRef"):
            if reference := source.get(kind):
                optional = bool(reference.get("optional"))
                value = _data(_DATA[kind], reference["name"], objects, optional=optional).get(reference["key"])
                if value is None and not optional:
                    raise Missing(f"couldn't find key {reference['key']} in {_DATA[kind][:-1]} {reference['name']}")
                return None if value is None else value.decode()
        return str(variable.get("value") or "")

    def _field(self, reference: JSON) -> str:
        path, metadata = reference["fieldPath"], self.pod["metadata"]
        if keyed := _KEYED.fullmatch(path):
            return str((metadata.get(keyed[1]) or {}).get(keyed[2], ""))
        if path in ("metadata.labels", "metadata.annotations"):
            pairs = metadata.get(path.removeprefix("metadata.")) or {}
            return "\n".join(f'{key}="{value}"' for key, value in sorted(pairs.items()))
        known = {"status.podIP": self.ip, "status.hostIP": "127.0.0.1", "spec.nodeName": self.pod["spec"]["nodeName"]}
        return str(known[path] if path in known else metadata[path.removeprefix("metadata.")])


def _expand(value: str, environ: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: environ.get(found[1], found[0]), value)


def _data(plural: str, name: str, objects: Objects, *, optional: bool) -> dict[str, bytes]:
    found = objects.get((plural, name))
    if found is None:
        if optional:
            return {}
        raise Missing(f'{plural[:-1]} "{name}" not found')
    decode = base64.b64decode if plural == "secrets" else str.encode
    return {key: decode(value) for key, value in (found.get("data") or {}).items()}
